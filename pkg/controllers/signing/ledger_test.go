// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Each resource counts once, as the last decision about its present state says. The oldest
// one that waits for the controller gives the age.
func TestLedger(t *testing.T) {
	now := time.Now()
	l := newLedger(clocktesting.NewFakePassiveClock(now))
	state := func(name, version string, age time.Duration) *resource.Summary {
		return &resource.Summary{Kind: resource.Task, Namespace: "a", Name: name, ResourceVersion: version, Received: now.Add(-age)}
	}
	unsigned := state("unsigned", "1", time.Minute)
	unsigned.SignatureError = resource.ErrUnsigned
	pending, signed, changed, left := state("pending", "1", time.Hour), state("signed", "1", time.Hour), state("changed", "2", 2*time.Minute), state("left", "1", 0)
	count := func(all ...*resource.Summary) *count {
		c := &count{kind: resource.Task, in: map[placed]int{}}
		for _, r := range all {
			c.add(l, r)
		}
		return c
	}
	l.decided("a/unsigned", unsigned, decision.Decision{Reason: decision.Unsigned})
	l.decided("a/pending", pending, decision.Decision{Reason: decision.NotAuthorized})
	l.decided("a/signed", signed, decision.Decision{Reason: decision.SignedByActiveKey})
	l.decided("a/changed", state("changed", "1", time.Hour), decision.Decision{Reason: decision.SignedByActiveKey})

	c := count(unsigned, pending, signed, changed)
	want := map[placed]int{{"a", decision.StandingUnsigned}: 1, {"a", decision.StandingUndecided}: 2, {"a", decision.StandingSigned}: 1}
	for at, resources := range want {
		if c.in[at] != resources {
			t.Errorf("%v: got %d, want %d", at, c.in[at], resources)
		}
	}
	if c.missing || !c.oldest.Equal(changed.Received) {
		t.Errorf("got %+v, want the age of the change that was not looked at yet", c)
	}
	l.signed("a/changed", "2")
	if c = count(unsigned, changed); !c.oldest.Equal(unsigned.Received) || c.in[placed{"a", decision.StandingSigned}] != 1 {
		t.Errorf("after the signature: got %+v", c)
	}
	if c = count(left); !c.missing {
		t.Error("a resource that was never looked at is not missing")
	}
	l.decided("a/unsigned", unsigned, decision.Decision{Reason: decision.NamespaceNotSelected})
	l.forget("a/signed")
	if len(l.entries) != 2 {
		t.Errorf("the ledger keeps %v", l.entries)
	}
	l.restart()
	if len(l.entries) != 0 {
		t.Errorf("after a restart, the ledger keeps %v", l.entries)
	}
}
