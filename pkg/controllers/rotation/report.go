// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
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
		if newer := keyring.NewerVersion(ring, &key); newer != "" && (known == nil || known.LatestVersion != newer) {
			c.Emitter.Emit(ctx, observe.KeyVersionAvailable{KeyRing: about, Name: key.Name, Ref: keyring.SpecOf(ring, key.Name).KMS.Ref, Version: newer})
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
