// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

func reference(ring *v1alpha1.KeyRing) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "KeyRing",
		Namespace: ring.Namespace, Name: ring.Name, UID: ring.UID, ResourceVersion: ring.ResourceVersion,
	}
}

// report emits what is new in the status of a ring.
func (c *Controller) report(ctx context.Context, ring *v1alpha1.KeyRing, before *v1alpha1.KeyRingStatus) {
	about := reference(ring)
	for _, key := range ring.Status.Keys {
		known := keyring.StatusOf(before, key.Name)
		if known == nil || known.State != key.State {
			c.Emitter.Emit(ctx, observe.KeyChanged{KeyRing: about, Name: key.Name, KeyID: key.KeyID, State: key.State})
		}
		if key.UntrustedSince != nil && (known == nil || known.UntrustedSince == nil) {
			c.Emitter.Emit(ctx, observe.KeyUntrusted{KeyRing: about, Name: key.Name, KeyID: key.KeyID})
		}
		if key.Name == ring.Status.Active && len(key.UnreadyPolicies) > 0 && (known == nil || !slices.Equal(known.UnreadyPolicies, key.UnreadyPolicies)) {
			c.Emitter.Emit(ctx, observe.PoliciesBehind{KeyRing: about, Name: key.Name, Policies: names(key.UnreadyPolicies)})
		}
	}
	was, is := meta.FindStatusCondition(before.Conditions, v1alpha1.KeyRingRotated), meta.FindStatusCondition(ring.Status.Conditions, v1alpha1.KeyRingRotated)
	waits := is.Reason == string(keyring.Load) || is.Reason == string(keyring.Activating) || is.Reason == string(keyring.NoTarget)
	if waits && is.Message != "" && (was == nil || was.Message != is.Message) {
		c.Emitter.Emit(ctx, observe.RotationWaits{KeyRing: about, Step: is.Reason, Why: is.Message})
	}
}

// notice sets the policies that trust an older key of a ring, and not the active one.
// Somebody may have written them after the activation.
func (c *Controller) notice(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) error {
	if status.Active == "" || status.Active != status.Target {
		return nil // the step looks at the policies itself
	}
	active, err := c.Keys.Key(ctx, ring, status.Active)
	if err != nil {
		return nil //nolint:nilerr // the status of the key says so
	}
	var older []*keys.Key
	for _, key := range status.Keys {
		if key.State != v1alpha1.KeyRetiring && key.State != v1alpha1.KeyRetired {
			continue
		}
		if found, err := c.Keys.Key(ctx, ring, key.Name); err == nil {
			older = append(older, found)
		}
	}
	policies, err := c.cachedPolicies()
	if err != nil {
		return err
	}
	found, err := c.unready(ctx, policies, c.Policies, older, active)
	if err != nil {
		return err
	}
	keyring.StatusOf(status, status.Active).UnreadyPolicies = found[:min(len(found), maxUnready)]
	return nil
}
