// SPDX-License-Identifier: Apache-2.0

package rings

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// useInterval is the time between two records of the use of a key. A key may be retired
// after a quiet period only, which is much longer.
const useInterval = time.Minute

// Verified notes that a key has verified a resource behind a run, if it is a key of a ring.
// Policies name many others.
func (r *Rings) Verified(keyID string) {
	known := func(ring *keys.Ring) bool {
		return slices.ContainsFunc(ring.Keys(), func(key *keys.Key) bool { return key.ID == keyID })
	}
	if !slices.ContainsFunc(r.All(), known) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verified[keyID] = r.clock.Now()
}

// recordUse records in the status of a ring when its keys last verified a resource. Each
// replica does so, because each verifies other runs. If another one has written the
// status meanwhile, the next read comes back.
func (r *Rings) recordUse(ctx context.Context, object *v1alpha1.KeyRing) {
	next := object.DeepCopy()
	if !r.setUse(&next.Status) {
		return
	}
	_, err := r.client.UpdateStatus(ctx, next, metav1.UpdateOptions{FieldManager: v1alpha1.Group})
	if err != nil && !apierrors.IsConflict(err) {
		logging.FromContext(ctx).Errorw("Cannot record the use of keys, so none of them is retired", "keyRing", object.Name, zap.Error(err))
	}
}

func (r *Rings) setUse(status *v1alpha1.KeyRingStatus) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range status.Keys {
		key := &status.Keys[i]
		used, found := r.verified[key.KeyID]
		if !found {
			continue
		}
		if key.LastVerified == nil || used.Sub(key.LastVerified.Time) >= useInterval {
			key.LastVerified, changed = &metav1.Time{Time: used.UTC().Truncate(time.Second)}, true
		}
	}
	return changed
}
