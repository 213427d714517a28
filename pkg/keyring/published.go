// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"slices"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// Published returns the public halves of the keys in a status of a ring. Keys whose public
// half is not known are left out.
func Published(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) []v1alpha1.PublishedKey {
	entries := make([]v1alpha1.PublishedKey, 0, len(status.Keys))
	for _, key := range status.Keys {
		if key.KeyID == "" {
			continue
		}
		entry := v1alpha1.PublishedKey{
			Ring: ring.Name, Name: key.Name, KeyID: key.KeyID, State: key.State, PublicKey: key.PublicKey,
			ActiveSince: key.ActiveSince, ActiveUntil: key.ActiveUntil, UntrustedSince: key.UntrustedSince,
		}
		if spec := SpecOf(ring, key.Name); spec != nil {
			entry.Revoked = spec.Revoked
		}
		entries = append(entries, entry)
	}
	return entries
}

// Has reports whether one of the rings has a published key. A ring without a status, as
// after a restore, has the keys that the spec names.
func Has(rings []v1alpha1.KeyRing, key v1alpha1.PublishedKey) bool {
	i := slices.IndexFunc(rings, func(ring v1alpha1.KeyRing) bool { return ring.Name == key.Ring })
	if i < 0 {
		return false
	}
	if status := StatusOf(&rings[i].Status, key.Name); status != nil && status.KeyID != "" {
		return status.KeyID == key.KeyID
	}
	return SpecOf(&rings[i], key.Name) != nil
}
