// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

func TestGuard_TriesAgainAfterPanicsAndRefusals(t *testing.T) {
	var nothing *runSigner
	away := errors.New("the API server is away")
	for name, tc := range map[string]struct {
		work   func() error
		reason string // "": the error is returned as it is
		want   error
	}{
		"panic":   {func() error { nothing.stopWatch(); return nil }, v1alpha1.ReasonPanicked, nil},
		"refusal": {func() error { return fmt.Errorf("%w: %w", errRefused, keys.ErrNoKey) }, v1alpha1.ReasonRunNotSigned, nil},
		"error":   {func() error { return away }, "", away},
		"success": {func() error { return nil }, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var emitted facts
			g := newGuard(&emitted)
			run := &corev1.ObjectReference{Kind: "TaskRun", Namespace: "ns", Name: "run", UID: "uid"}
			for _, delay := range []time.Duration{firstRetry, 2 * firstRetry, 4 * firstRetry} {
				err := g.do(t.Context(), run, tc.work)
				again, after := controller.IsRequeueKey(err)
				switch {
				case tc.reason == "" && !errors.Is(err, tc.want):
					t.Fatalf("got %v, want %v", err, tc.want)
				case tc.reason != "" && (!again || after != delay):
					t.Fatalf("tried again: %v after %v, want after %v", again, after, delay)
				}
			}
			emitted.expectReason(t, run, tc.reason)
			_ = g.do(t.Context(), run, func() error { return nil })
			if delay := g.delays.Get(string(run.UID)); delay != 0 {
				t.Errorf("after a success the delay is still %v", delay)
			}
		})
	}
}

// expectReason expects facts about the run with this reason, and none if it is empty.
func (f facts) expectReason(t *testing.T, run *corev1.ObjectReference, reason string) {
	t.Helper()
	for _, fact := range f {
		if got, ok := fact.(observe.RunNotSigned); !ok || got.Reason != reason || got.Run != run {
			t.Errorf("emitted %+v, want reason %q", fact, reason)
		}
	}
	if (len(f) > 0) != (reason != "") {
		t.Errorf("emitted %d facts", len(f))
	}
}

// panicking is a reconciler that panics.
type panicking struct{ reconciler.LeaderAwareFuncs }

func (*panicking) Reconcile(context.Context, string) error { panic("odd input") }

func TestGuardReconciler_KeepsTheProcess(t *testing.T) {
	var emitted facts
	impl := &controller.Impl{Reconciler: &panicking{}}
	guardReconciler(t.Context(), impl, &emitted, func(namespace, name string) *corev1.ObjectReference {
		return &corev1.ObjectReference{Kind: "TaskRun", Namespace: namespace, Name: name}
	})
	if again, _ := controller.IsRequeueKey(impl.Reconciler.Reconcile(t.Context(), "ns/run")); !again {
		t.Error("the run is not tried again")
	}
	if f, ok := emitted[0].(observe.RunNotSigned); !ok || f.Reason != v1alpha1.ReasonPanicked || f.Run.Name != "run" {
		t.Errorf("emitted %+v", emitted)
	}
	if _, leads := impl.Reconciler.(reconciler.LeaderAware); !leads {
		t.Error("the reconciler does not know of leaders any more")
	}
}
