// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

// rotating returns a KeyRing that rotates from 2026 to 2027, as the controller has seen it.
func rotating(change func(*v1alpha1.KeyRing)) *v1alpha1.KeyRing {
	since := metav1.NewTime(time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC))
	ring := &v1alpha1.KeyRing{
		ObjectMeta: metav1.ObjectMeta{Name: "default", Generation: 2},
		Spec: v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{
			{Name: "2026", X509: &v1alpha1.X509Key{Secret: "old"}},
			{Name: "2027", KMS: &v1alpha1.KMSKey{Ref: "hashivault://tekton", Version: "2"}},
		}},
		Status: v1alpha1.KeyRingStatus{
			ObservedGeneration: 2, Active: "2026", Target: "2027",
			Keys: []v1alpha1.RingKeyStatus{
				{Name: "2026", State: v1alpha1.KeyActive, KeyID: "sha256:aaaaaaaaaaaaaaaa", Signed: 10, ActiveSince: &since},
				{Name: "2027", State: v1alpha1.KeyPending, KeyID: "sha256:bbbbbbbbbbbbbbbb"},
			},
			Conditions: []metav1.Condition{{Type: v1alpha1.KeyRingRotated, Status: metav1.ConditionFalse, Reason: string(keyring.Activating), ObservedGeneration: 2}},
		},
	}
	change(ring)
	return ring
}

// activated changes a KeyRing as the controller does.
func activated(ring *v1alpha1.KeyRing) {
	ring.Status = keyring.Activate(ring.Status, "2027", time.Date(2027, 2, 3, 4, 5, 6, 0, time.UTC))
}

func says(ring *v1alpha1.KeyRing, step keyring.Step, message string) {
	ring.Status.Conditions[0].Reason, ring.Status.Conditions[0].Message = string(step), message
}

func gate(ring *v1alpha1.KeyRing, condition string, status metav1.ConditionStatus, message string) {
	ring.Status.Conditions = append(ring.Status.Conditions, metav1.Condition{Type: condition, Status: status, Message: message, ObservedGeneration: 2})
}

func trusts(status metav1.ConditionStatus, message string) func(*v1alpha1.KeyRing) {
	return func(ring *v1alpha1.KeyRing) { gate(ring, v1alpha1.KeyRingTrusted, status, message) }
}

func TestRotationSteps_SayWhatTheStatusSays(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*v1alpha1.KeyRing)
		want   string // the first step that is not done
	}{
		"not read": {func(r *v1alpha1.KeyRing) { r.Generation = 3 }, "Read: the controller has not read the change yet"},
		"no key": {func(r *v1alpha1.KeyRing) {
			r.Status.Keys[1] = v1alpha1.RingKeyStatus{Name: "2027", Problem: "Vault is sealed"}
		}, "Loaded: Vault is sealed"},
		"policies":         {trusts(metav1.ConditionFalse, "a/p does not trust the key"), "Trusted: a/p does not trust the key"},
		"policies unknown": {trusts(metav1.ConditionUnknown, "no policy can be read"), "Trusted: no policy can be read"},
		"canary": {func(r *v1alpha1.KeyRing) {
			trusts(metav1.ConditionTrue, "1 of 1 policies")(r)
			gate(r, v1alpha1.KeyRingSeen, metav1.ConditionFalse, "no canary")
		}, "Seen: no canary"},
		"canary unknown": {func(r *v1alpha1.KeyRing) {
			trusts(metav1.ConditionTrue, "1 of 1 policies")(r)
			gate(r, v1alpha1.KeyRingSeen, metav1.ConditionUnknown, "there was no canary")
		}, "Seen: there was no canary"},
		"seen": {func(r *v1alpha1.KeyRing) {
			trusts(metav1.ConditionTrue, "1 of 1 policies")(r)
			gate(r, v1alpha1.KeyRingSeen, metav1.ConditionTrue, "a canary")
			says(r, keyring.Activating, "the API server does not answer")
		}, "Active: the API server does not answer"},
		"old condition": {func(r *v1alpha1.KeyRing) {
			trusts(metav1.ConditionTrue, "1 of 1 policies")(r)
			r.Status.Conditions[1].ObservedGeneration = 1
			says(r, keyring.Activating, "not yet")
		}, "Trusted: not yet"},
		"old message": {func(r *v1alpha1.KeyRing) { r.Status.Conditions[0].ObservedGeneration = 1 }, "Trusted: the controller has not decided yet"},
		"paused": {func(r *v1alpha1.KeyRing) {
			trusts(metav1.ConditionFalse, "a/p does not trust the key")(r)
			says(r, keyring.Pause, "")
		}, "Trusted: spec.rotation.paused stops the rotation"},
		"signing": {activated, "Signed: 0/10 resources"},
		"draining": {func(r *v1alpha1.KeyRing) {
			activated(r)
			r.Status.Keys[0].Signed, r.Status.Keys[1].Signed = 0, 10
			says(r, keyring.Drain, "7 runs began before")
		}, "Drained: 7 runs began before"},
		"untrusting": {func(r *v1alpha1.KeyRing) {
			activated(r)
			r.Status = keyring.Retire(r.Status, "2026")
			r.Status.Keys[0].Signed = 0
			says(r, keyring.Untrust, "no canary")
		}, "Untrusted: no canary"},
		"done": {func(r *v1alpha1.KeyRing) {
			activated(r)
			r.Status = keyring.Untrusted(keyring.Retire(r.Status, "2026"), "2026", time.Now())
			r.Status.Keys[0].Signed = 0
			says(r, keyring.Done, "done")
			r.Status.Conditions[0].Status = metav1.ConditionTrue
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			steps, err := rotationSteps(rotating(tc.change), "2027", false)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if undone := firstUndone(steps); undone != nil {
				got = undone.name + ": " + undone.text
			}
			if !strings.HasPrefix(got, tc.want) || (tc.want == "") != (got == "") {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	other := rotating(func(r *v1alpha1.KeyRing) { r.Spec.Keys[1].Standby = true })
	if _, err := rotationSteps(other, "2027", false); err == nil || !strings.Contains(err.Error(), `is "2026" now, expected "2027"`) {
		t.Errorf("after a rollback: got %v", err)
	}
}

// After a revocation the controller does not look at the policies, so nothing is said
// about them.
func TestRotationSteps_ClaimNothingAfterARevocation(t *testing.T) {
	steps, err := rotationSteps(rotating(func(r *v1alpha1.KeyRing) {
		activated(r)
		r.Status.Keys[0].State = v1alpha1.KeyRevoked
		trusts(metav1.ConditionUnknown, "key 2026 is revoked")(r)
		gate(r, v1alpha1.KeyRingSeen, metav1.ConditionTrue, "a canary")
	}), "2027", true)
	if err != nil || firstUndone(steps) != nil {
		t.Fatalf("got %+v and %v", steps, err)
	}
	for _, s := range steps {
		if known := !strings.Contains(s.text, "not known"); known == (s.name == "Trusted") {
			t.Errorf("%s: %s", s.name, s.text)
		}
	}
}

func TestRevocationSteps_WaitUntilNobodyTrustsTheKey(t *testing.T) {
	ring := rotating(activated)
	ring.Spec.Keys[0].Revoked = &v1alpha1.Revocation{Reason: v1alpha1.RevokedKeyCompromise}
	undone := func(want string) {
		t.Helper()
		steps := revocationSteps(ring, "2026")
		got := ""
		if s := firstUndone(steps); s != nil {
			got = s.name
		}
		if got != want {
			t.Errorf("got %q, want %q: %+v", got, want, steps)
		}
	}
	undone("Revoked")
	ring.Status.Keys[0].State = v1alpha1.KeyRevoked
	undone("Untrusted")
	ring.Status = keyring.Untrusted(ring.Status, "2026", time.Now())
	undone("Signed")
	ring.Spec.Keys[0].Revoked.Hold = true
	undone("")
	ring.Status.Active = ""
	undone("Active")
}

func TestPrinter_PrintsOnlyChanges(t *testing.T) {
	var out bytes.Buffer
	var p printer
	now := time.Unix(0, 0)
	show := func(signed int64, note string) {
		steps := []step{
			{name: "Active", done: true, text: "2027"},
			{name: "Signed", done: signed == 300, text: fmt.Sprintf("%d/300", signed), count: signed},
			{name: "Drained", text: "1 run"},
		}
		p.print(&out, steps, now)
		if note != "" {
			p.note(&out, note)
		}
		now = now.Add(time.Second)
	}
	show(100, "")
	show(100, "cannot be read")
	show(200, "cannot be read")
	show(300, "")
	show(300, "")
	want := "✓ Active     2027\n… Signed     100/300\ncannot be read\n… Signed     200/300  50/s\n✓ Signed     300/300\n… Drained    1 run\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
