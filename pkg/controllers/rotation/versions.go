// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"time"

	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

const (
	// versionInterval is the time between two questions for the latest version of a key.
	versionInterval = 10 * time.Minute
	// versionTimeout bounds the questions about one ring. A KMS that hangs must not delay
	// the steps of other rings.
	versionTimeout = 3 * time.Second
)

// version is what a KMS said of the latest version of a key.
type version struct {
	asked  time.Time
	latest string // empty if the KMS never answered
}

// setVersions sets the latest versions that are known in a status. What was known before
// stays.
func (c *Controller) setVersions(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) {
	for i := range status.Keys {
		key := &status.Keys[i]
		if ref := askedRef(ring, key); c.versions[ref].latest != "" {
			key.LatestVersion = c.versions[ref].latest
		}
	}
}

// askVersions asks the KMS for the latest versions of the keys of a ring, if nobody has for
// some time. A KMS that does not answer is no problem of the key. It reports whether an
// answer was another one than before.
func (c *Controller) askVersions(ctx context.Context, ring *v1alpha1.KeyRing) (news bool) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	for i := range ring.Status.Keys {
		ref := askedRef(ring, &ring.Status.Keys[i])
		known := c.versions[ref]
		if ref == "" || !known.asked.IsZero() && c.Clock.Since(known.asked) < versionInterval {
			continue
		}
		known.asked = c.Clock.Now()
		latest, err := c.LatestVersion(ctx, ref)
		if err != nil {
			logging.FromContext(ctx).Infow("The latest version of a key is not known", "keyRing", ring.Name, zap.Error(err))
		} else {
			news = news || latest != known.latest
			known.latest = latest
		}
		c.versions[ref] = known
	}
	return news
}

// recordVersions asks for the latest versions, after the step was taken: nothing waits for
// the answer.
func (c *Controller) recordVersions(ctx context.Context, ring *v1alpha1.KeyRing) error {
	if !c.askVersions(ctx, ring) {
		return nil
	}
	status := *ring.Status.DeepCopy()
	c.setVersions(ring, &status)
	return c.write(ctx, ring, status)
}

// askedRef returns the reference of a key whose latest version matters; empty for others.
func askedRef(ring *v1alpha1.KeyRing, status *v1alpha1.RingKeyStatus) string {
	spec := keyring.SpecOf(ring, status.Name)
	old := status.State == v1alpha1.KeyRetired || status.State == v1alpha1.KeyRevoked
	if spec == nil || spec.KMS == nil || spec.KMS.Version == "" || old {
		return ""
	}
	return spec.KMS.Ref
}
