// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// ringWith returns a KeyRing with keys such as "2026 active", "2027 pending standby", "2025
// retired public". A key without a state is one that the controller has not seen.
func ringWith(keys ...string) *v1alpha1.KeyRing {
	ring := &v1alpha1.KeyRing{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	for i, text := range keys {
		words := strings.Fields(text)
		key := v1alpha1.RingKey{Name: words[0], X509: &v1alpha1.X509Key{Secret: "key-" + words[0]}}
		status := v1alpha1.RingKeyStatus{Name: words[0], KeyID: "sha256:" + words[0], PublicKey: "public half of " + words[0]}
		for _, word := range words[1:] {
			switch word {
			case "standby":
				key.Standby = true
			case "public":
				key.X509, key.PublicKey = nil, status.PublicKey
			case "broken":
				status.Problem = "the Secret is missing"
			case "removed": // from the spec
				key.Name = ""
			default:
				status.State = v1alpha1.KeyState(word)
			}
		}
		switch status.State {
		case v1alpha1.KeyActive:
			ring.Status.Active = status.Name
		case v1alpha1.KeyRetiring, v1alpha1.KeyRetired:
			status.ActiveUntil = at(time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC))
		case v1alpha1.KeyRevoked:
			key.Revoked = &v1alpha1.Revocation{Reason: v1alpha1.RevokedSuperseded}
		case v1alpha1.KeyPending:
		}
		if key.Name != "" {
			ring.Spec.Keys = append(ring.Spec.Keys, key)
		}
		if status.State != "" {
			ring.Status.Keys = append(ring.Status.Keys, status)
		}
	}
	return ring
}

// fails reports whether an error has a text; "" stands for no error.
func fails(err error, text string) bool {
	if text == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), text)
}

func TestAppend_AddsAKeyOnce(t *testing.T) {
	ring := ringWith("2026 active", "2025 retired removed")
	key := v1alpha1.RingKey{Name: "2027", X509: &v1alpha1.X509Key{Secret: "key-2027"}, Standby: true}
	for range 2 {
		if err := Append(ring, key); err != nil || len(ring.Spec.Keys) != 2 {
			t.Fatalf("%v: %+v", err, ring.Spec.Keys)
		}
	}
	for name, key := range map[string]v1alpha1.RingKey{
		"another Secret":          {Name: "2027", X509: &v1alpha1.X509Key{Secret: "other"}},
		"a KMS":                   {Name: "2027", KMS: &v1alpha1.KMSKey{Ref: "hashivault://k", Version: "1"}},
		"a name of a removed key": {Name: "2025", X509: &v1alpha1.X509Key{Secret: "key-2025"}},
	} {
		if err := Append(ring, key); !fails(err, "not used again") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAim_MakesAKeyTheTarget(t *testing.T) {
	for _, tc := range []struct {
		keys     []string
		to, says string
	}{
		{[]string{"2026 active", "2027 pending standby"}, "2027", ""},
		{[]string{"2026 retiring", "2027 active", "2028"}, "2026", ""},
		{[]string{"2026 active", "2027 pending standby", "2028 pending standby"}, "2027", ""},
		{[]string{"2025 retired", "2026 active"}, "2025", "retired"},
		{[]string{"2025 revoked", "2026 active"}, "2025", "revoked"},
		{[]string{"2026 active", "2027 pending public"}, "2027", "no private half"},
		{[]string{"2026 active", "2027 pending"}, "2030", "its keys are 2026, 2027"},
	} {
		ring := ringWith(tc.keys...)
		before := Target(ring)
		err := Aim(ring, tc.to)
		want := tc.to
		if tc.says != "" {
			want = before
		}
		if got := Target(ring); !fails(err, tc.says) || got != want {
			t.Errorf("%q to %s: got %v and target %q, want %q and %q", tc.keys, tc.to, err, got, tc.says, want)
		}
	}
	if err := Aim(ringWith("2026 active"), "2027"); !errors.Is(err, ErrNoSuchKey) {
		t.Errorf("got %v", err)
	}
}

func TestPrevious_GoesBackOnce(t *testing.T) {
	for _, tc := range []struct {
		keys       []string
		want, says string
	}{
		{[]string{"2026 active", "2027 pending"}, "2026", ""},                               // not there yet
		{[]string{"2026 retiring", "2027 active"}, "2026", ""},                              // there
		{[]string{"2026 retiring", "2027 active standby"}, "2026", ""},                      // the rollback has begun
		{[]string{"2026 active", "2027 retiring standby"}, "2026", ""},                      // the rollback is done
		{[]string{"2025 retiring", "2026 active", "2027 retiring standby"}, "2026", ""},     // not further
		{[]string{"2025 retiring", "2026 retiring", "2027 active"}, "2026", ""},             // the last one
		{[]string{"2025 retiring", "2026 retiring public", "2027 active"}, "2025", ""},      // without a private half
		{[]string{"2026 retired", "2027 active"}, "", "retired keys any more (2026)"},       // too late
		{[]string{"2026 revoked", "2027 active"}, "", "nothing to go back to"},              // never
		{[]string{"2026 active"}, "", "nothing to go back to"},                              // nothing happened
		{[]string{"2026 pending", "2027 pending"}, "", "no active key"},                     // not begun
		{[]string{"2026 retired", "2027 active", "2028 pending standby"}, "", "go back to"}, // a standby changes nothing
	} {
		ring := ringWith(tc.keys...)
		got, err := Previous(ring)
		if got != tc.want || !fails(err, tc.says) {
			t.Errorf("%q: got %q and %v, want %q and %q", tc.keys, got, err, tc.want, tc.says)
		}
		if err != nil {
			continue
		}
		if err := Aim(ring, got); err != nil {
			t.Errorf("%q: %v", tc.keys, err)
		}
		if again, err := Previous(ring); err != nil || again != got {
			t.Errorf("%q: the second call gives %q and %v, want %q", tc.keys, again, err, got)
		}
	}
}

func TestRevoke_LetsAnotherKeySign(t *testing.T) {
	for _, tc := range []struct {
		keys       []string
		name, want string // the target afterwards
		says       string
	}{
		{[]string{"2026 retiring", "2027 active"}, "2027", "2026", ""},
		{[]string{"2026 active", "2027 pending standby"}, "2026", "2027", ""},
		{[]string{"2026 retired", "2027 active", "2028 pending standby"}, "2027", "2028", ""}, // and not the retired one
		{[]string{"2026 active", "2027 pending"}, "2026", "2027", ""},
		{[]string{"2026 active", "2027 pending broken"}, "2026", "2027", ""},                  // nothing better is known
		{[]string{"2025 retiring", "2026 active", "2027 pending broken"}, "2025", "2027", ""}, // the rotation goes on
		{[]string{"2025 retiring", "2026 active", "2027 pending standby broken"}, "2026", "2025", ""},
		{[]string{"2025 retired", "2026 active", "2027 pending standby"}, "2025", "2026", ""},
		{[]string{"2025 retired removed", "2026 active"}, "2025", "2026", ""},
		{[]string{"2026 active"}, "2026", "", ""},
		{[]string{"2026 active", "2027 standby"}, "2026", "2027", ""}, // made just now
		{[]string{"2025 retiring", "2026 active", "2027 standby"}, "2026", "2025", ""},
		{[]string{"2026 active", "2027 pending standby public"}, "2026", "", ""},
		{[]string{"2026 active"}, "2030", "2026", "its keys are 2026"},
	} {
		ring := ringWith(tc.keys...)
		err := Revoke(ring, tc.name, func(r *v1alpha1.Revocation) { r.Reason = v1alpha1.RevokedKeyCompromise })
		if got := Target(ring); got != tc.want || !fails(err, tc.says) {
			t.Errorf("%q, %s: got target %q and %v, want %q and %q", tc.keys, tc.name, got, err, tc.want, tc.says)
		}
		if key := SpecOf(ring, tc.name); err == nil && (key.Revoked == nil || key.Revoked.Reason != v1alpha1.RevokedKeyCompromise || key.X509 == nil && key.PublicKey == "") {
			t.Errorf("%q, %s: got %+v", tc.keys, tc.name, key)
		}
	}
}

// A second entry with the revoked key does not become its successor.
func TestSuccessor_IsAnotherKey(t *testing.T) {
	ring := ringWith("2026 active", "copy pending standby")
	StatusOf(&ring.Status, "copy").KeyID = StatusOf(&ring.Status, "2026").KeyID
	if got := Successor(ring, "2026"); got != "" {
		t.Errorf("got %q, want none", got)
	}
}

func TestForget_KeepsThePublicHalf(t *testing.T) {
	for _, tc := range []struct {
		keys               []string
		name, secret, says string
	}{
		{[]string{"2026 retired", "2027 active"}, "2026", "key-2026", ""},
		{[]string{"2026 revoked", "2027 active"}, "2026", "key-2026", ""},
		{[]string{"2026 retired public", "2027 active"}, "2026", "", ""},
		{[]string{"2026 retiring", "2027 active"}, "2026", "", "is retiring, expected retired or revoked"},
		{[]string{"2026 active"}, "2026", "", "is active"},
		{[]string{"2026 active", "2027 pending"}, "2027", "", "is pending"},
		{[]string{"2026 active", "2027"}, "2027", "", "not yet seen"},
		{[]string{"2026 retired", "2027 active standby"}, "2026", "", "is the target"},
		{[]string{"2026 active"}, "2030", "", "its keys are 2026"},
	} {
		ring := ringWith(tc.keys...)
		secret, err := Forget(ring, tc.name)
		if secret != tc.secret || !fails(err, tc.says) {
			t.Errorf("%q: got %q and %v, want %q and %q", tc.keys, secret, err, tc.secret, tc.says)
		}
		if key := SpecOf(ring, tc.name); err == nil && (key.X509 != nil || key.PublicKey != "public half of "+tc.name) {
			t.Errorf("%q: got %+v, want the public half only", tc.keys, key)
		}
	}
}
