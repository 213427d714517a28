// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// facts are the facts that were emitted.
type facts []observe.Fact

func (*facts) Announce(context.Context, observe.Fact) error { return nil }

func (f *facts) Emit(_ context.Context, fact observe.Fact) { *f = append(*f, fact) }

// sent returns the write of a signature on the state with resourceVersion 1. The
// state after it has resourceVersion 2, if the API server has answered.
func sent(answered bool) write {
	before := &resource.Summary{Namespace: "ns", Name: "t", ResourceVersion: "1", Checksums: sums("a")}
	w := write{content: [sha256.Size]byte(before.Checksums.Content()), signature: []byte("s")}
	if answered {
		w.resourceVersion = "2"
	} else {
		w.fact = &observe.Signed{Resource: before, KeyID: "k"}
	}
	return w
}

func delivered(resourceVersion, content, signature string) *resource.Summary {
	return &resource.Summary{Namespace: "ns", Name: "t", ResourceVersion: resourceVersion, Checksums: sums(content), Signature: []byte(signature)}
}

func TestWrites_AreRecognised(t *testing.T) {
	for name, tc := range map[string]struct {
		answered bool
		state    *resource.Summary
		want     bool
	}{
		"our state":                         {true, delivered("2", "a", "s"), true},
		"our write, changed by a webhook":   {true, delivered("2", "b", "s"), true},
		"a later state":                     {true, delivered("3", "a", "s"), false},
		"our state, no answer":              {false, delivered("2", "a", "s"), true},
		"a later state with it, no answer":  {false, delivered("3", "b", "s"), true},
		"a state without it, no answer":     {false, delivered("2", "a", "other"), false},
		"the state before, still no answer": {false, delivered("1", "a", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWrites()
			w.add("ns/t", sent(tc.answered))
			if _, got := w.take("ns/t", tc.state); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if _, got := w.take("ns/t", tc.state); got {
				t.Error("the write is recognised twice")
			}
		})
	}
}

// The API server may have written a signature although its answer was lost. The
// signature is reported when the watch delivers it, and only once.
func TestSigner_ReportsASignatureWhoseAnswerWasLost(t *testing.T) {
	var emitted facts
	decisions := 0
	s := &Signer{
		decide: func(context.Context, *resource.Summary) decision.Decision {
			decisions++
			return decision.Decision{Action: decision.Leave, Reason: decision.SignedByActiveKey}
		},
		emitter: &emitted, writes: newWrites(), contents: newContents(clock.RealClock{}),
		ledger:   newLedger(clock.RealClock{}),
		disputes: flowcontrol.NewBackOff(time.Second, time.Minute),
	}
	s.writes.add("ns/t", sent(false))
	if err := s.reconcile(t.Context(), "ns/t", delivered("2", "a", "s")); err != nil {
		t.Fatal(err)
	}
	if len(emitted) != 1 {
		t.Fatalf("got %d facts, want 1", len(emitted))
	}
	if signed, ok := emitted[0].(observe.Signed); !ok || signed.Resource.ResourceVersion != "2" || signed.KeyID != "k" {
		t.Errorf("got %+v, want a signature with resourceVersion 2 and key k", emitted[0])
	}
	if decisions != 1 {
		t.Errorf("%d decisions were made, want 1: the key or the release of Tekton may have changed since", decisions)
	}

	emitted = nil
	s.writes.add("ns/t", sent(true)) // reported when the answer came
	if err := s.reconcile(t.Context(), "ns/t", delivered("2", "b", "s")); !errors.Is(err, resources.ErrDisputed) {
		t.Errorf("got error %v, want %v", err, resources.ErrDisputed)
	}
	if len(emitted) != 0 {
		t.Errorf("got %+v, want no fact", emitted)
	}
}
