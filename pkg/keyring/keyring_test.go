// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"errors"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

var now = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)

func private(name string) v1alpha1.RingKey {
	return v1alpha1.RingKey{Name: name, X509: &v1alpha1.X509Key{Secret: "key-" + name}}
}

func standby(name string) v1alpha1.RingKey {
	key := private(name)
	key.Standby = true
	return key
}

func revoked(name string) v1alpha1.RingKey {
	key := private(name)
	key.Revoked = &v1alpha1.Revocation{Reason: v1alpha1.RevokedKeyCompromise}
	return key
}

func ringOf(keys ...v1alpha1.RingKey) *v1alpha1.KeyRing {
	return &v1alpha1.KeyRing{Spec: v1alpha1.KeyRingSpec{Keys: keys}}
}

// usable is a key that signs.
func usable(id string) Loaded {
	return Loaded{ID: "sha256:" + id, PublicKey: "PEM of " + id, Signs: true}
}

func TestTarget(t *testing.T) {
	for name, tc := range map[string]struct {
		keys []v1alpha1.RingKey
		want string
	}{
		"none":               {nil, ""},
		"the last":           {[]v1alpha1.RingKey{private("a"), private("b")}, "b"},
		"not a standby":      {[]v1alpha1.RingKey{private("a"), standby("b")}, "a"},
		"not a revoked one":  {[]v1alpha1.RingKey{private("a"), revoked("b")}, "a"},
		"not a public half":  {[]v1alpha1.RingKey{private("a"), {Name: "b", PublicKey: "PEM"}}, "a"},
		"only a revoked one": {[]v1alpha1.RingKey{revoked("a")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Target(ringOf(tc.keys...)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestCandidates_WithoutAStatusAreAllThatMayHaveSigned(t *testing.T) {
	ring := ringOf(private("a"), revoked("b"), private("c"), private("d"), standby("e"))
	loaded := map[string]Loaded{"a": usable("a"), "b": usable("b"), "c": {Err: errors.New("no Secret")}, "d": usable("d"), "e": usable("e")}
	status := Observe(ring, loaded, now)
	if got := Candidates(ring, &status); !slices.Equal(got, []string{"d", "a"}) {
		t.Errorf("got %q, want d before a", got)
	}
	status = Activate(status, "a", now)
	if got := Candidates(ring, &status); !slices.Equal(got, []string{"d"}) {
		t.Errorf("got %q, want the target only", got)
	}
}

// look is one look of the controller at a ring.
type look struct {
	ring   *v1alpha1.KeyRing
	loaded map[string]Loaded
}

func (l *look) next(t *testing.T, step Step, name string) {
	t.Helper()
	l.ring.Status = Observe(l.ring, l.loaded, now)
	if gotStep, gotName := Next(l.ring, &l.ring.Status, l.loaded); gotStep != step || gotName != name {
		t.Fatalf("got step %s of key %q, want %s of %q; status %+v", gotStep, gotName, step, name, l.ring.Status)
	}
	active := 0
	for _, key := range l.ring.Status.Keys {
		if key.State == v1alpha1.KeyActive {
			active++
			if key.Name != l.ring.Status.Active {
				t.Errorf("key %q is in state active, the active key is %q", key.Name, l.ring.Status.Active)
			}
		}
	}
	if active > 1 || (active == 0) != (l.ring.Status.Active == "") {
		t.Errorf("%d keys are active, the active key is %q", active, l.ring.Status.Active)
	}
}

func TestNext_WalksThroughARotation(t *testing.T) {
	l := &look{ring: ringOf(private("a")), loaded: map[string]Loaded{"a": {Err: errors.New("no Secret")}}}
	l.next(t, Load, "a")
	l.loaded["a"] = usable("a")
	l.next(t, Activating, "a")
	l.ring.Status = Activate(l.ring.Status, "a", now)
	l.next(t, Done, "a")

	l.ring.Spec.Keys = append(l.ring.Spec.Keys, private("b"))
	l.next(t, Load, "b")
	l.loaded["b"] = usable("b")
	l.ring.Spec.Rotation.Paused = true
	l.next(t, Pause, "b")
	l.ring.Spec.Rotation.Paused = false
	l.next(t, Activating, "b")
	l.ring.Status = Activate(l.ring.Status, "b", now)
	l.next(t, Drain, "a")

	// Back: the newer key becomes a standby.
	l.ring.Spec.Keys[1].Standby = true
	l.next(t, Activating, "a")
	l.ring.Status = Activate(l.ring.Status, "a", now)
	l.next(t, Drain, "b")
	l.ring.Spec.Keys[1].Standby = false
	l.next(t, Activating, "b")
	l.ring.Status = Activate(l.ring.Status, "b", now)

	l.ring.Status = Retire(l.ring.Status, "a")
	l.next(t, Untrust, "a")
	l.ring.Status = Untrusted(l.ring.Status, "a", now)
	l.next(t, Done, "b")
}

func TestNext_UntrustsARevokedKeyFirst(t *testing.T) {
	l := &look{ring: ringOf(private("a"), standby("b")), loaded: map[string]Loaded{"a": usable("a"), "b": usable("b")}}
	l.next(t, Activating, "a")
	l.ring.Status = Activate(l.ring.Status, "a", now)
	l.ring.Spec.Rotation.Paused = true // does not stop a revocation
	l.ring.Spec.Keys = []v1alpha1.RingKey{revoked("a"), private("b")}
	l.next(t, Untrust, "a")
	key := StatusOf(&l.ring.Status, "a")
	if MayReplace(l.ring, key) {
		t.Error("signatures of a revoked key may be replaced while policies trust the key")
	}
	if key.ActiveUntil == nil {
		t.Error("the end of the signatures is not recorded")
	}
	l.ring.Status = Untrusted(l.ring.Status, "a", now)
	l.next(t, Activating, "b")
	if key = StatusOf(&l.ring.Status, "a"); !MayReplace(l.ring, key) {
		t.Error("signatures of a revoked key may never be replaced")
	}
	l.ring.Spec.Keys[0].Revoked.Hold = true
	if MayReplace(l.ring, key) {
		t.Error("signatures of a held key may be replaced")
	}
}

// A revoked key stays revoked, under whatever name.
func TestObserve_NeverForgetsARevocation(t *testing.T) {
	l := &look{ring: ringOf(revoked("a"), private("b")), loaded: map[string]Loaded{"a": usable("a"), "b": usable("b")}}
	l.next(t, Untrust, "a")
	l.ring.Status = Untrusted(l.ring.Status, "a", now)
	for name, keys := range map[string][]v1alpha1.RingKey{
		"mark removed":  {private("a")},
		"entry removed": {private("b")},
		"another name":  {private("c")},
	} {
		t.Run(name, func(t *testing.T) {
			l := &look{ring: l.ring.DeepCopy(), loaded: map[string]Loaded{"a": usable("a"), "b": usable("b"), "c": usable("a")}}
			l.ring.Spec.Keys = keys
			status := Observe(l.ring, l.loaded, now)
			for _, key := range status.Keys {
				if key.KeyID == "sha256:a" && key.State != v1alpha1.KeyRevoked {
					t.Errorf("key %q with the revoked key is %s", key.Name, key.State)
				}
			}
			if step, name := Next(l.ring, &status, l.loaded); step == Activating && name != "b" {
				t.Errorf("the revoked key is to become active as %q", name)
			}
		})
	}
}

func TestObserve_RefusesAnotherKeyUnderTheSameName(t *testing.T) {
	l := &look{ring: ringOf(private("a")), loaded: map[string]Loaded{"a": usable("a")}}
	l.next(t, Activating, "a")
	l.loaded["a"] = usable("z")
	l.next(t, Load, "a")
	if got := StatusOf(&l.ring.Status, "a"); got.KeyID != "sha256:a" || got.Problem == "" {
		t.Errorf("got %+v, want the first key and a problem", got)
	}
}

// The same status follows when a backup has lost it, up to what happened when.
func TestObserve_KeepsKeysThatTheSpecNamesNoMore(t *testing.T) {
	l := &look{ring: ringOf(private("a"), private("b")), loaded: map[string]Loaded{"a": usable("a"), "b": usable("b")}}
	l.next(t, Activating, "b")
	l.ring.Status = Activate(l.ring.Status, "b", now)
	l.ring.Spec.Keys = l.ring.Spec.Keys[1:]
	l.next(t, Done, "b")
	if StatusOf(&l.ring.Status, "a") == nil {
		t.Error("the signatures of key a are not recognized any more")
	}
}

func TestActivate_RecordsWhen(t *testing.T) {
	l := &look{ring: ringOf(private("a"), private("b")), loaded: map[string]Loaded{"a": usable("a"), "b": usable("b")}}
	l.next(t, Activating, "b")
	status := Activate(Activate(l.ring.Status, "a", now), "b", now.Add(time.Hour))
	a, b := StatusOf(&status, "a"), StatusOf(&status, "b")
	if a.State != v1alpha1.KeyRetiring || !a.ActiveSince.Time.Equal(now) || !a.ActiveUntil.Time.Equal(now.Add(time.Hour)) {
		t.Errorf("the first key: %+v", a)
	}
	if b.State != v1alpha1.KeyActive || !b.ActiveSince.Equal(&metav1.Time{Time: now.Add(time.Hour)}) || b.ActiveUntil != nil {
		t.Errorf("the second key: %+v", b)
	}
}
