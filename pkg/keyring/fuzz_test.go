// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"encoding/json"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// Whatever a ring says, at most one key is active, a revoked key stays revoked and never
// becomes active, and the steps come to an end.
func FuzzNext(f *testing.F) {
	for _, ring := range []*v1alpha1.KeyRing{
		ringOf(), ringOf(private("a")), ringOf(private("a"), standby("b")), ringOf(revoked("a"), private("b")),
		ringOf(private("a"), private("a")), ringOf(private("a"), v1alpha1.RingKey{Name: "b", PublicKey: "PEM of a"}),
	} {
		for _, state := range []v1alpha1.KeyState{"", v1alpha1.KeyActive, v1alpha1.KeyRetiring, v1alpha1.KeyRevoked, "unknown"} {
			ring := ring.DeepCopy()
			if state != "" {
				ring.Status = v1alpha1.KeyRingStatus{Active: "a", Keys: []v1alpha1.RingKeyStatus{{Name: "a", State: state, KeyID: "sha256:PEM of a"}}}
			}
			seed, err := json.Marshal(ring)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(seed)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ring v1alpha1.KeyRing
		if json.Unmarshal(data, &ring) != nil || len(ring.Spec.Keys)+len(ring.Status.Keys) > 32 {
			return // the API server refuses it
		}
		loaded := map[string]Loaded{}
		for _, key := range ring.Spec.Keys {
			public := key.PublicKey
			if public == "" {
				public = "PEM of " + key.Name
			}
			loaded[key.Name] = Loaded{ID: "sha256:" + public, PublicKey: public, Signs: hasPrivateHalf(key)}
		}
		walk(t, &ring, loaded)
	})
}

// walk takes steps until none is left.
func walk(t *testing.T, ring *v1alpha1.KeyRing, loaded map[string]Loaded) {
	t.Helper()
	lost := map[string]bool{} // the IDs of revoked keys
	for range 4 * (len(ring.Spec.Keys) + len(ring.Status.Keys) + 1) {
		ring.Status = Observe(ring, loaded, now)
		check(t, ring, lost)
		step, name := Next(ring, &ring.Status, loaded)
		switch step {
		case Activating:
			candidates := Candidates(ring, &ring.Status)
			if len(candidates) == 0 {
				return
			}
			ring.Status = Activate(ring.Status, candidates[0], now)
		case Drain:
			ring.Status = Retire(ring.Status, name)
		case Untrust:
			ring.Status = Untrusted(ring.Status, name, now)
		case Done, Load, NoTarget, Pause:
			return
		}
		check(t, ring, lost)
	}
	t.Errorf("the steps have no end: %+v", ring)
}

func check(t *testing.T, ring *v1alpha1.KeyRing, lost map[string]bool) {
	t.Helper()
	active := 0
	for _, key := range ring.Status.Keys {
		switch {
		case key.State == v1alpha1.KeyRevoked && key.KeyID != "":
			lost[key.KeyID] = true
		case lost[key.KeyID]:
			t.Errorf("key %q was revoked, and is %s now: %+v", key.Name, key.State, ring)
		case key.State == v1alpha1.KeyActive:
			active++
		}
	}
	if active > 1 {
		t.Errorf("%d keys are active: %+v", active, ring)
	}
}
