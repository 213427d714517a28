package resources

import (
	"context"
	"time"

	"k8s.io/client-go/util/flowcontrol"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"

	"github.com/trusted-resources/chains-extension/pkg/controllers/environment"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// NewControllers makes two controllers for each signable kind, one that signs
// and one that stores. They share configuration, keys and policies, and no
// queue: a registry that is slow or away keeps nothing from being signed.
func NewControllers(shared *environment.Source) []injection.ControllerConstructor {
	constructors := make([]injection.ControllerConstructor, 0, 2*len(resource.Kinds))
	for _, kind := range resource.Kinds {
		constructors = append(constructors,
			func(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
				return newSigning(ctx, kind, shared.Get(ctx, cmw))
			},
			func(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
				return newStoring(ctx, kind, shared.Get(ctx, cmw))
			})
	}
	return constructors
}

// What fails is tried again after these at first: the API server soon, a
// registry with more patience.
const (
	firstSigningRetry = 100 * time.Millisecond
	firstStoringRetry = time.Second
)

func newSigning(ctx context.Context, kind resource.Kind, env *environment.Environment) *controller.Impl {
	r := &Reconciler{
		base:     newBase(ctx, kind, env),
		patcher:  patcherOf[kind](ctx),
		disputes: flowcontrol.NewBackOff(firstDisputeDelay, maxDisputeDelay),
	}
	return r.enqueue(ctx, env, r, kind.ConfigName(), firstSigningRetry)
}

func newStoring(ctx context.Context, kind resource.Kind, env *environment.Environment) *controller.Impl {
	r := &Storer{base: newBase(ctx, kind, env), store: env.Store, known: map[string]stored{}}
	return r.enqueue(ctx, env, r, "store-"+kind.ConfigName(), firstStoringRetry)
}
