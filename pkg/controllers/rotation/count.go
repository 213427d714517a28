// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// countInterval is the time between two counts while no rotation is going on. To find the
// key of a signature takes about 0.1 ms, for each of up to 100,000 resources.
const countInterval = 10 * time.Minute

// counter counts the resources that each key of a ring has signed, as the informers have
// them.
type counter struct {
	// known are the keys of the signatures that were looked at before, during a rotation.
	known map[types.UID]signer
	last  time.Time
}

// signer is the ID of the key that signed one state of a resource; empty if none of the
// ring did.
type signer struct{ version, keyID string }

// count sets the numbers in the status of a ring.
func (c *Controller) count(ring string, status *v1alpha1.KeyRingStatus, rotating bool) {
	counts := c.counters[ring]
	if counts == nil {
		counts = &counter{}
		c.counters[ring] = counts
	}
	if now := c.Clock.Now(); rotating || now.Sub(counts.last) >= countInterval {
		counts.last = now
		byID := counts.count(status, c.Resources)
		for i := range status.Keys {
			status.Keys[i].Signed = byID[status.Keys[i].KeyID]
		}
	}
	if !rotating {
		counts.known = nil
		delete(c.moved, ring)
		delete(c.open, ring)
	}
}

// isReplacing reports that signatures of other keys than the active one are being replaced,
// as after a revocation.
func isReplacing(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) bool {
	return slices.ContainsFunc(status.Keys, func(key v1alpha1.RingKeyStatus) bool {
		return key.Name != status.Active && key.Signed > 0 && keyring.MayReplace(ring, &key)
	})
}

func (c *counter) count(status *v1alpha1.KeyRingStatus, resources Resources) map[string]int64 {
	byID, seen, ring := map[string]int64{}, map[types.UID]signer{}, ringOf(status.Keys)
	resources.Visit(func(r *resource.Summary) {
		found, known := c.known[r.UID]
		if !known || found.version != r.ResourceVersion {
			found = signer{version: r.ResourceVersion}
			if key := decision.Signer(ring, r); key != nil {
				found.keyID = key.ID
			}
		}
		seen[r.UID] = found
		byID[found.keyID]++
	})
	c.known = seen
	return byID
}
