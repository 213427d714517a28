// SPDX-License-Identifier: Apache-2.0

package app

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/pkg/controllers/state"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// keyMetrics returns the values of the gauges about keys. A key that is in several KeyRings,
// or also in the signing secret, counts once.
func keyMetrics(s *state.State, keyRings *rings.Rings) (all []observe.Measurement) {
	for _, signer := range s.Config().SignerTypes() {
		all = append(all, observe.SignerRequired(signer))
	}
	infos := sets.New[observe.Measurement]()
	for _, ring := range append(keyRings.All(), s.LegacyKeys()) {
		ring.Visit(func(id, signer string, standing keys.Standing) {
			infos.Insert(observe.KeyInfo(id, signer, string(standing)))
		})
	}
	byID := map[string]v1alpha1.RingKeyStatus{}
	for _, key := range keyRings.States() {
		if other, found := byID[key.KeyID]; key.KeyID != "" && (!found || cmp.Less(other.Signed, key.Signed)) {
			byID[key.KeyID] = key
		}
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		key := byID[id]
		all = append(all, observe.KeyResources(id, string(key.State), key.Signed))
		if key.State == v1alpha1.KeyActive && key.ActiveSince != nil {
			all = append(all, observe.KeyActiveSince(id, key.ActiveSince.Time))
		}
	}
	return append(all, infos.UnsortedList()...)
}
