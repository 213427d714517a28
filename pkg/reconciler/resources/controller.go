package resources

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/reconciler/environment"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// NewControllers makes one controller for each signable kind. They share
// configuration, keys and policies.
func NewControllers(shared *environment.Source) []injection.ControllerConstructor {
	constructors := make([]injection.ControllerConstructor, 0, len(resource.Kinds))
	for _, kind := range resource.Kinds {
		constructors = append(constructors, func(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
			return newController(ctx, kind, shared.Get(ctx, cmw))
		})
	}
	return constructors
}

const (
	firstRetryDelay = 100 * time.Millisecond
	maxRetryDelay   = 5 * time.Minute
)

func newController(ctx context.Context, kind resource.Kind, env *environment.Environment) *controller.Impl {
	informer := environment.Informer(ctx, kind)
	r := &Reconciler{
		kind:        kind,
		indexer:     informer.GetIndexer(),
		patcher:     patcherOf[kind](ctx),
		config:      env.Config.Load,
		namespaces:  env.NamespaceLabels,
		release:     env.CheckRelease,
		ring:        env.Keys.Ring,
		distrust:    env.Keys.Distrust,
		authorities: newPolicyAuthorities(ctx),
		events:      env.Events,
		metrics:     env.Metrics,
		disputes:    flowcontrol.NewBackOff(firstDisputeDelay, maxDisputeDelay),
	}
	r.PromoteFunc = r.enqueueAll

	name := config.Group + "." + kind.ConfigName()
	impl := controller.NewContext(ctx, r, controller.ControllerOptions{
		WorkQueueName: name,
		Logger:        logging.FromContext(ctx).Named(kind.ConfigName()),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](firstRetryDelay, maxRetryDelay),
	})

	env.Handle(ctx, informer, cache.FilteringResourceEventHandler{
		FilterFunc: env.InScope,
		Handler:    controller.HandleAll(impl.Enqueue),
	})
	env.OnChange(func(namespace string) {
		for _, item := range r.list(namespace) {
			if env.InScope(item) {
				impl.EnqueueSlow(item)
			}
		}
	})
	return impl
}

// list is what the cache holds of one namespace, or of all.
func (r *Reconciler) list(namespace string) []any {
	if namespace == environment.AllNamespaces {
		return r.indexer.List()
	}
	items, err := r.indexer.ByIndex(cache.NamespaceIndex, namespace)
	if err != nil {
		return r.indexer.List() // no such index: too many is safe
	}
	return items
}

// enqueueAll is how a new leader takes over.
func (r *Reconciler) enqueueAll(bucket reconciler.Bucket, enqueue func(reconciler.Bucket, types.NamespacedName)) error {
	for _, key := range r.indexer.ListKeys() {
		namespace, name, err := cache.SplitMetaNamespaceKey(key)
		if err != nil {
			return err
		}
		enqueue(bucket, types.NamespacedName{Namespace: namespace, Name: name})
	}
	return nil
}
