// SPDX-License-Identifier: Apache-2.0

// Package keyring says what happens next with the keys of a KeyRing. Its functions are
// pure: they depend on the KeyRing, and on what was observed of its keys.
package keyring

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// Loaded is what is known of one key of a ring after an attempt to load it.
type Loaded struct {
	// ID and PublicKey (in PEM) are empty if the public half is not known.
	ID, PublicKey string
	// Signs reports that the key has a private half, and made a signature that the public
	// half verifies.
	Signs bool
	// Err is why the key cannot be used. A key without a private half has no error.
	Err error
}

// Target returns the name of the key that is to sign: the last one with a private half
// that is neither a standby nor revoked. It is empty if there is none.
func Target(ring *v1alpha1.KeyRing) string {
	for _, key := range slices.Backward(ring.Spec.Keys) {
		if hasPrivateHalf(key) && !key.Standby && key.Revoked == nil && !wasRevoked(ring, key.Name) {
			return key.Name
		}
	}
	return ""
}

// Candidates returns the names of the keys of which one may become active: the target, and
// in a ring without an active key also the keys before it, the newest first. Without a
// status, for example after a restore from a backup, one of these was active.
func Candidates(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) (names []string) {
	if status.Active != "" {
		return []string{status.Target}
	}
	found := false
	for _, key := range slices.Backward(ring.Spec.Keys) {
		found = found || key.Name == status.Target
		known := StatusOf(status, key.Name)
		if found && hasPrivateHalf(key) && !key.Standby && known.State != v1alpha1.KeyRevoked && known.Problem == "" {
			names = append(names, key.Name)
		}
	}
	return names
}

func hasPrivateHalf(key v1alpha1.RingKey) bool { return key.X509 != nil || key.KMS != nil }

// wasRevoked reports that the status has a key as revoked. Nothing undoes a revocation,
// also if the spec names it no more.
func wasRevoked(ring *v1alpha1.KeyRing, name string) bool {
	known := StatusOf(&ring.Status, name)
	return known != nil && known.State == v1alpha1.KeyRevoked
}

// StatusOf returns the status of a key, or nil.
func StatusOf(status *v1alpha1.KeyRingStatus, name string) *v1alpha1.RingKeyStatus {
	if i := slices.IndexFunc(status.Keys, func(k v1alpha1.RingKeyStatus) bool { return k.Name == name }); i >= 0 {
		return &status.Keys[i]
	}
	return nil
}

// SpecOf returns a key of a ring, or nil.
func SpecOf(ring *v1alpha1.KeyRing, name string) *v1alpha1.RingKey {
	if i := slices.IndexFunc(ring.Spec.Keys, func(k v1alpha1.RingKey) bool { return k.Name == name }); i >= 0 {
		return &ring.Spec.Keys[i]
	}
	return nil
}

// Observe returns the status of a ring with what was observed of its keys. It never
// makes a key active: Activate does. Keys that are in the status only stay there, so that
// their signatures are recognized for ever.
func Observe(ring *v1alpha1.KeyRing, loaded map[string]Loaded, now time.Time) v1alpha1.KeyRingStatus {
	status := *ring.Status.DeepCopy()
	status.ObservedGeneration = ring.Generation
	status.Target = Target(ring)
	for _, key := range ring.Spec.Keys {
		known := StatusOf(&status, key.Name)
		if known == nil {
			status.Keys = append(status.Keys, v1alpha1.RingKeyStatus{Name: key.Name, State: v1alpha1.KeyPending})
			known = &status.Keys[len(status.Keys)-1]
		}
		observe(known, key, loaded[key.Name])
	}
	revokeSameKeys(&status)
	if active := StatusOf(&status, status.Active); active == nil || active.State == v1alpha1.KeyRevoked {
		end(active, now)
		status.Active = ""
	}
	return status
}

func observe(known *v1alpha1.RingKeyStatus, key v1alpha1.RingKey, loaded Loaded) {
	known.Problem = ""
	switch {
	case known.KeyID != "" && loaded.ID != "" && known.KeyID != loaded.ID:
		known.Problem = "the key is another one than before (" + known.KeyID + "): give another key another name"
	case loaded.Err != nil:
		known.Problem = loaded.Err.Error()
	}
	if known.KeyID == "" {
		known.KeyID, known.PublicKey = loaded.ID, loaded.PublicKey
	}
	if key.Revoked != nil {
		known.State = v1alpha1.KeyRevoked
	}
}

// revokeSameKeys marks each entry with the key of a revoked entry, whatever its name.
func revokeSameKeys(status *v1alpha1.KeyRingStatus) {
	revoked := map[string]bool{}
	for _, key := range status.Keys {
		if key.State == v1alpha1.KeyRevoked && key.KeyID != "" {
			revoked[key.KeyID] = true
		}
	}
	for i := range status.Keys {
		if revoked[status.Keys[i].KeyID] {
			status.Keys[i].State = v1alpha1.KeyRevoked
		}
	}
}

// Activate returns the status after a key began to sign.
func Activate(status v1alpha1.KeyRingStatus, name string, now time.Time) v1alpha1.KeyRingStatus {
	status = *status.DeepCopy()
	for i := range status.Keys {
		switch key := &status.Keys[i]; {
		case key.Name == name:
			key.State, key.ActiveSince, key.ActiveUntil, key.UntrustedSince = v1alpha1.KeyActive, at(now), nil, nil
		case key.State == v1alpha1.KeyActive:
			key.State = v1alpha1.KeyRetiring
			end(key, now)
		}
	}
	status.Active = name
	return status
}

// Retire returns the status after nothing needs a key any more. Policies may still trust
// the key.
func Retire(status v1alpha1.KeyRingStatus, name string) v1alpha1.KeyRingStatus {
	status = *status.DeepCopy()
	if key := StatusOf(&status, name); key != nil && key.State == v1alpha1.KeyRetiring {
		key.State = v1alpha1.KeyRetired
	}
	return status
}

// Untrusted returns the status after no injected policy trusts a key any more, and
// Tekton's controller has seen that.
func Untrusted(status v1alpha1.KeyRingStatus, name string, now time.Time) v1alpha1.KeyRingStatus {
	status = *status.DeepCopy()
	if key := StatusOf(&status, name); key != nil {
		key.UntrustedSince = at(now)
	}
	return status
}

// Trusted reports whether policies should trust a key in this state.
func Trusted(state v1alpha1.KeyState) bool {
	return state == v1alpha1.KeyPending || state == v1alpha1.KeyActive || state == v1alpha1.KeyRetiring
}

// MayReplace reports whether signatures of a key may be replaced by those of the active
// key. Signatures of a revoked key may not before nobody trusts the key any more: a thief
// may have changed the content.
func MayReplace(ring *v1alpha1.KeyRing, key *v1alpha1.RingKeyStatus) bool {
	if key.State != v1alpha1.KeyRevoked {
		return true
	}
	spec := SpecOf(ring, key.Name)
	return key.UntrustedSince != nil && spec != nil && spec.Revoked != nil && !spec.Revoked.Hold
}

// FollowsRevoked reports that the key which signed before a key is revoked. Nobody asks
// which policies trust a revoked key, because that takes a signature of the key.
func FollowsRevoked(status *v1alpha1.KeyRingStatus, name string) bool {
	if status.Active != "" && status.Active != name {
		return false // the active key signed before
	}
	var last *v1alpha1.RingKeyStatus
	for i, key := range status.Keys {
		if key.Name != name && key.ActiveUntil != nil && (last == nil || !key.ActiveUntil.Before(last.ActiveUntil)) {
			last = &status.Keys[i]
		}
	}
	return last != nil && last.State == v1alpha1.KeyRevoked
}

func end(key *v1alpha1.RingKeyStatus, now time.Time) {
	if key != nil && key.ActiveSince != nil && key.ActiveUntil == nil {
		key.ActiveUntil = at(now)
	}
}

// at returns the time as the API server stores it.
func at(now time.Time) *metav1.Time { return &metav1.Time{Time: now.UTC().Truncate(time.Second)} }

// Step is what comes next in the rotation of a ring. The values are the reasons of the
// condition Rotated.
type Step string

// The steps, in their order.
const (
	// NoTarget: no key may sign.
	NoTarget Step = "NoTarget"
	// Load: the target cannot be used yet.
	Load Step = "Loading"
	// Pause: spec.rotation.paused stops the rotation.
	Pause Step = "Paused"
	// Activating: the target must be trusted, Tekton must have seen that, and then the
	// target signs.
	Activating Step = "Activating"
	// Untrust: policies must not trust a retired or revoked key any more, and Tekton must
	// have seen that.
	Untrust Step = "Untrusting"
	// Drain: the resources, runs and bundles that need an older key have to go first.
	Drain Step = "Draining"
	// Done: the target signs, and no older key is trusted.
	Done Step = "Done"
)

// Next returns the next step of a ring, and the key that the step is about. Nobody may
// trust a revoked key for longer than it takes, so that comes first.
func Next(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus, loaded map[string]Loaded) (Step, string) {
	if key := first(status, v1alpha1.KeyRevoked, stillTrusted); key != nil {
		return Untrust, key.Name
	}
	target := StatusOf(status, status.Target)
	if target == nil || target.State == v1alpha1.KeyRevoked {
		return NoTarget, ""
	}
	paused := ring.Spec.Rotation.Paused && status.Active != ""
	if status.Active != target.Name {
		switch {
		case target.Problem != "" || !loaded[target.Name].Signs:
			return Load, target.Name
		case paused:
			return Pause, target.Name
		}
		return Activating, target.Name
	}
	for _, wanted := range []struct {
		state v1alpha1.KeyState
		step  Step
	}{{v1alpha1.KeyRetired, Untrust}, {v1alpha1.KeyRetiring, Drain}} {
		switch key := first(status, wanted.state, stillTrusted); {
		case key == nil:
		case paused:
			return Pause, key.Name
		default:
			return wanted.step, key.Name
		}
	}
	return Done, target.Name
}

// first returns the first key in a state for which wanted is true, or nil.
func first(status *v1alpha1.KeyRingStatus, state v1alpha1.KeyState, wanted func(v1alpha1.RingKeyStatus) bool) *v1alpha1.RingKeyStatus {
	for i, key := range status.Keys {
		if key.State == state && wanted(key) {
			return &status.Keys[i]
		}
	}
	return nil
}

// stillTrusted reports that policies may trust a key. A key whose public half was never
// known is in none.
func stillTrusted(key v1alpha1.RingKeyStatus) bool {
	return key.KeyID != "" && key.UntrustedSince == nil
}
