// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

const (
	firstRetry    = time.Second
	maxRetryDelay = time.Minute // a run waits no longer than this once its key is good
)

// guard keeps a run that cannot be signed, or on which Chains panics, from anything
// but itself: the process goes on, and the run is tried again with a growing delay.
// Chains does not count such an attempt, so it never marks the run as failed for it.
type guard struct {
	emitter Emitter
	delays  *flowcontrol.Backoff // by UID of the run
}

func newGuard(emitter Emitter) *guard {
	return &guard{emitter, flowcontrol.NewBackOff(firstRetry, maxRetryDelay)}
}

// do calls a function that works on a run. After a panic, or errRefused, it returns
// the error that makes the work queue try again.
func (g *guard) do(ctx context.Context, run *corev1.ObjectReference, work func() error) error {
	err := observe.Guard(work)
	reason := ""
	switch {
	case errors.Is(err, observe.ErrPanicked):
		reason = v1alpha1.ReasonPanicked
	case errors.Is(err, errRefused):
		reason = v1alpha1.ReasonRunNotSigned
	default:
		g.delays.DeleteEntry(string(run.UID))
		return err
	}
	g.emitter.Emit(ctx, observe.RunNotSigned{Run: run, Reason: reason, Err: err})
	g.delays.GC()
	g.delays.Next(string(run.UID), g.delays.Clock.Now())
	return controller.NewRequeueAfter(g.delays.Get(string(run.UID)))
}

// leaderAware is what a reconciler that knative generates implements.
type leaderAware interface {
	controller.Reconciler
	reconciler.LeaderAware
}

// guarded is the reconciler of one kind of run, behind a guard of its own. What knative
// generates stays as it is in Chains, because the names of the leases contain the name
// of its type.
type guarded struct {
	leaderAware

	guard *guard
	// reference returns a reference to the run with a name.
	reference func(namespace, name string) *corev1.ObjectReference
}

// Reconcile implements controller.Reconciler.
func (g guarded) Reconcile(ctx context.Context, key string) error {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return controller.NewPermanentError(err)
	}
	if name.Namespace == v1alpha1.CanaryNamespace { // nobody asks for attestations of these runs, which last for seconds
		return controller.NewSkipKey(key)
	}
	return g.guard.do(ctx, g.reference(name.Namespace, name.Name), func() error { return g.leaderAware.Reconcile(ctx, key) })
}

// guardReconciler puts the reconciler of a controller behind a guard.
func guardReconciler(ctx context.Context, impl *controller.Impl, emitter Emitter, reference func(namespace, name string) *corev1.ObjectReference) {
	inner, ok := impl.Reconciler.(leaderAware)
	if !ok {
		logging.FromContext(ctx).Fatalf("The reconciler %T does not know of leaders", impl.Reconciler)
	}
	impl.Reconciler = guarded{inner, newGuard(emitter), reference}
}
