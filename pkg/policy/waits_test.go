// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// hang is a call to a KMS that does not answer.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return fmt.Errorf("%w: %w", keys.ErrNoAnswer, ctx.Err())
}

// answer returns a call to a KMS that answers after some time.
func answer(after time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(after):
			return nil
		case <-ctx.Done():
			return hang(ctx)
		}
	}
}

// startCallers starts callers on behalf of a namespace. Each may wait for callTimeout.
// The function that is returned waits until they have returned, and returns how long
// each waited, and how many got an answer.
func startCallers(t *testing.T, w *waits, namespace string, n int, call func(context.Context) error) func() (waited []time.Duration, answers int) {
	t.Helper()
	var callers sync.WaitGroup
	waited, errs := make([]time.Duration, n), make([]error, n)
	for i := range n {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
			defer cancel()
			start := time.Now()
			errs[i] = w.do(ctx, namespace, call)
			waited[i] = time.Since(start)
		})
	}
	return func() ([]time.Duration, int) {
		callers.Wait()
		answers := 0
		for _, err := range errs {
			switch {
			case err == nil:
				answers++
			case !errors.Is(err, keys.ErrNoAnswer):
				t.Errorf("namespace %s: got error %v, want %v", namespace, err, keys.ErrNoAnswer)
			}
		}
		return waited, answers
	}
}

func longerThan(limit time.Duration, waited []time.Duration) (n int) {
	for _, w := range waited {
		if w > limit {
			n++
		}
	}
	return n
}

// Callers share workers with other namespaces. When a KMS hangs, nearly all of them
// return within the patience.
func TestWaits_FewCallersWaitForHangingKMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaits(signingPatience, clock.RealClock{})
		callers := map[string]func() ([]time.Duration, int){}
		for i := range 4 {
			namespace := fmt.Sprintf("hostile-%d", i)
			callers[namespace] = startCallers(t, w, namespace, 8, hang)
		}
		<-time.After(signingPatience + time.Millisecond)
		for namespace := range callers {
			waited, _ := startCallers(t, w, namespace, 8, hang)()
			if late := longerThan(0, waited); late > 0 {
				t.Errorf("%s: %d callers waited although the KMS hangs", namespace, late)
			}
		}
		waited, answers := startCallers(t, w, "honest", 8, answer(20*time.Millisecond))()
		if late := longerThan(20*time.Millisecond, waited); late > 0 || answers != 8 {
			t.Errorf("honest: %d answers, %d callers waited for longer than the KMS takes", answers, late)
		}
		all := 0
		for namespace, wait := range callers {
			waited, answers := wait()
			late := longerThan(signingPatience, waited)
			if answers > 0 || late > maxLongWaitsOfNamespace {
				t.Errorf("%s: %d answers, %d callers waited for longer than %s", namespace, answers, late, signingPatience)
			}
			all += late
		}
		if all != maxLongWaits {
			t.Errorf("%d callers waited for longer than %s, want %d", all, signingPatience, maxLongWaits)
		}
	})
}

// A KMS that is slow answers some callers at once and the others when they try again.
func TestWaits_SlowKMSAnswersEveryCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaits(signingPatience, clock.RealClock{})
		for left, tries := 8, 0; left > 0; tries++ { // two callers in each try
			if tries > 8 {
				t.Fatalf("%d callers got no answer in %d tries", left, tries)
			}
			_, answers := startCallers(t, w, "slow", left, answer(3*signingPatience))()
			left -= answers
		}
	})
}

// After a KMS did not answer, the namespace is silent for a while only.
func TestWaits_AsksAgainAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaits(signingPatience, clock.RealClock{})
		startCallers(t, w, "ns", 1, hang)()
		if _, answers := startCallers(t, w, "ns", 1, answer(0))(); answers != 0 {
			t.Error("a KMS was asked right after one did not answer")
		}
		if _, answers := startCallers(t, w, "other", 1, answer(0))(); answers != 1 {
			t.Error("no KMS was asked for another namespace")
		}
		<-time.After(silence)
		if _, answers := startCallers(t, w, "ns", 1, answer(0))(); answers != 1 {
			t.Error("no KMS was asked after the silence")
		}
		if len(w.longOf) != 0 || w.long != 0 {
			t.Errorf("%d callers are counted after all returned: %v", w.long, w.longOf)
		}
	})
}

func TestWaits_CanceledCallerDoesNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaits(signingPatience, clock.RealClock{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*signingPatience, cancel)
		if err := w.do(ctx, "ns", hang); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
		if err := w.do(t.Context(), "ns", answer(0)); err != nil {
			t.Errorf("got error %v, want an answer", err)
		}
	})
}

// The drill: a tenant's policy names KMS that hang, and 8 workers decide about
// resources of the tenant. Each policy of 50 has keys of its own.
func TestAuthorizes_HangingKMSDoesNotHoldWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policies := make([]*v1alpha1.VerificationPolicy, 0, 50)
		for i := range cap(policies) {
			server, ref := newServer(fmt.Sprintf("%s-%d", t.Name(), i), newKey())
			server.block = make(chan struct{})
			defer server.unblock()
			policies = append(policies, enforce(fmt.Sprintf("p-%d", i), inKMS(ref)))
		}
		read := NewKeys(asTekton(&secretStore{}, clock.RealClock{}))
		const workers, minute = 8, time.Minute
		held := make([]time.Duration, workers)
		start := time.Now()
		var running sync.WaitGroup
		for i := range workers {
			running.Go(func() {
				for time.Since(start) < minute {
					before := time.Now()
					if authorized, err := authorizes(t, read.Fresh(), newKey().input(), policies...); authorized || err == nil {
						t.Errorf("got %t and error %v", authorized, err)
					}
					held[i] += time.Since(before)
					<-time.After(100 * time.Millisecond) // the worker does something else
				}
			})
		}
		running.Wait()
		var all time.Duration
		for _, h := range held {
			all += h
		}
		if limit := minute * (maxLongWaitsOfNamespace + 1); all > limit {
			t.Errorf("the tenant held workers for %s in a minute, want at most %s", all, limit)
		}
	})
}

// Attestations wait for a KMS that is slow. For one that hangs, two callers wait, and
// the others report the key as unavailable. That is not remembered: when the KMS
// answers, the next caller passes.
func TestVerify_HangingKMSDoesNotHoldCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := newKey()
		server, ref := newServer(t.Name(), key)
		server.block = make(chan struct{})
		policies := &policyStore{policies: []*v1alpha1.VerificationPolicy{enforce("p", inKMS(ref))}}
		verifier := New(policies, nil, asTekton(&secretStore{}, clock.RealClock{}))
		const callers = 8
		waited := make([]time.Duration, callers)
		start := time.Now()
		var running sync.WaitGroup
		for i := range callers {
			running.Go(func() {
				verdict, err := verifier.Verify(t.Context(), namespace, key.input())
				if waited[i] = time.Since(start); waited[i] <= reportPatience && (err != nil || verdict.Reason != KeyUnavailable) {
					t.Errorf("got %+v and error %v, want %s", verdict, err, KeyUnavailable)
				}
			})
		}
		<-time.After(reportPatience + time.Millisecond)
		server.unblock()
		synctest.Wait()
		if verdict, err := verifier.Verify(t.Context(), namespace, key.input()); err != nil || verdict.Result != Passed {
			t.Errorf("after the answer of the KMS: got %+v and error %v, want %s", verdict, err, Passed)
		}
		running.Wait()
		if late := longerThan(reportPatience, waited); late > maxLongWaitsOfNamespace {
			t.Errorf("%d of %d callers waited for longer than %s, want at most %d", late, callers, reportPatience, maxLongWaitsOfNamespace)
		}
	})
}
