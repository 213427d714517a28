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
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Options are what the command line says.
type Options struct {
	// SecretsDir is where the signing secret is mounted.
	SecretsDir string
	// TektonNamespace is where Tekton Pipelines is installed.
	TektonNamespace string
	// Namespaces restricts the controller to some; empty means all.
	Namespaces []string
}

// NewControllers makes one controller for each signable kind. They share
// configuration, keys and policies.
func NewControllers(options Options) []injection.ControllerConstructor {
	var shared *environment
	constructors := make([]injection.ControllerConstructor, 0, len(resource.Kinds))
	for _, kind := range resource.Kinds {
		// knative calls the constructors one after the other.
		constructors = append(constructors, func(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
			if shared == nil {
				shared = newEnvironment(ctx, cmw, options)
			}
			return newController(ctx, kind, shared)
		})
	}
	return constructors
}

const (
	firstRetryDelay = 100 * time.Millisecond
	maxRetryDelay   = 5 * time.Minute
)

func newController(ctx context.Context, kind resource.Kind, env *environment) *controller.Impl {
	informer := accessOf[kind].informer(ctx)
	r := &Reconciler{
		kind:        kind,
		indexer:     informer.GetIndexer(),
		patcher:     accessOf[kind].patcher(ctx),
		config:      env.config.Load,
		namespaces:  env.namespaceLabels,
		release:     env.checkRelease,
		ring:        env.keys.Ring,
		distrust:    env.keys.Distrust,
		authorities: env.authorities,
		events:      env.events,
		metrics:     env.metrics,
		disputes:    flowcontrol.NewBackOff(firstDisputeDelay, maxDisputeDelay),
	}
	r.PromoteFunc = r.enqueueAll

	name := config.Group + "." + kind.ConfigName()
	impl := controller.NewContext(ctx, r, controller.ControllerOptions{
		WorkQueueName: name,
		Logger:        logging.FromContext(ctx).Named(kind.ConfigName()),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](firstRetryDelay, maxRetryDelay),
	})

	if err := informer.SetTransform(slim); err != nil {
		logging.FromContext(ctx).Fatalw("Cannot set up the cache", "kind", kind, "error", err)
	}
	env.handle(ctx, informer, cache.FilteringResourceEventHandler{
		FilterFunc: env.inScope,
		Handler:    controller.HandleAll(impl.Enqueue),
	})
	env.onChange(func(namespace string) {
		for _, item := range r.list(namespace) {
			if env.inScope(item) {
				impl.EnqueueSlow(item)
			}
		}
	})
	return impl
}

// list is what the cache holds of one namespace, or of all.
func (r *Reconciler) list(namespace string) []any {
	if namespace == allNamespaces {
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
