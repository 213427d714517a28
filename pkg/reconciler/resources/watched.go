package resources

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/reconciler/environment"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// watched are the resources of one kind, and which of them are ours to look
// after.
type watched struct {
	reconciler.LeaderAwareFuncs

	kind       resource.Kind
	indexer    cache.Indexer
	config     func() *config.Config
	namespaces namespaceLabels
}

// namespaceLabels gives the labels of a namespace; false when there is none to
// sign in.
type namespaceLabels func(namespace string) (map[string]string, bool)

func newWatched(ctx context.Context, kind resource.Kind, env *environment.Environment) *watched {
	w := &watched{
		kind:       kind,
		indexer:    environment.Informer(ctx, kind).GetIndexer(),
		config:     env.Config.Load,
		namespaces: env.NamespaceLabels,
	}
	w.PromoteFunc = w.enqueueAll
	return w
}

// maxRetryDelay is how long what fails again and again waits in the end.
const maxRetryDelay = 5 * time.Minute

// enqueue makes the controller that has r look at the resources when they, or
// what bears on them, change. What fails is tried again, first after
// firstRetryDelay.
func (w *watched) enqueue(ctx context.Context, env *environment.Environment, r controller.Reconciler, queue string, firstRetryDelay time.Duration) *controller.Impl {
	impl := controller.NewContext(ctx, r, controller.ControllerOptions{
		WorkQueueName: config.Group + "." + queue,
		Logger:        logging.FromContext(ctx).Named(queue),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](firstRetryDelay, maxRetryDelay),
	})
	env.Handle(ctx, environment.Informer(ctx, w.kind), cache.FilteringResourceEventHandler{
		FilterFunc: env.InScope,
		Handler:    controller.HandleAll(impl.Enqueue),
	})
	env.OnChange(func(namespace string) {
		for _, item := range w.list(namespace) {
			if env.InScope(item) {
				impl.EnqueueSlow(item)
			}
		}
	})
	return impl
}

// list is what the cache holds of one namespace, or of all.
func (w *watched) list(namespace string) []any {
	if namespace == environment.AllNamespaces {
		return w.indexer.List()
	}
	items, err := w.indexer.ByIndex(cache.NamespaceIndex, namespace)
	if err != nil {
		return w.indexer.List() // no such index: too many is safe
	}
	return items
}

// enqueueAll is how a new leader takes over.
func (w *watched) enqueueAll(bucket reconciler.Bucket, enqueue func(reconciler.Bucket, types.NamespacedName)) error {
	for _, key := range w.indexer.ListKeys() {
		namespace, name, err := cache.SplitMetaNamespaceKey(key)
		if err != nil {
			return err
		}
		enqueue(bucket, types.NamespacedName{Namespace: namespace, Name: name})
	}
	return nil
}

// get is the resource with this key ("namespace/name") if this replica is to
// look after it, or else nil.
func (w *watched) get(key string) (resource.Object, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return nil, err
	}
	if !w.IsLeaderFor(types.NamespacedName{Namespace: namespace, Name: name}) {
		return nil, nil //nolint:nilnil // there is none
	}
	item, exists, err := w.indexer.GetByKey(key)
	if err != nil || !exists {
		return nil, err
	}
	obj, ok := item.(resource.Object)
	if !ok {
		return nil, fmt.Errorf("the cache of kind %s holds a %T", w.kind, item)
	}
	if !w.eligible(obj) {
		return nil, nil //nolint:nilnil // there is none
	}
	return obj, nil
}

// eligible is the part of the decision that needs no key.
func (w *watched) eligible(obj resource.Object) bool {
	cfg := w.config()
	if cfg.Signer(w.kind) == config.SignerNone || obj.GetDeletionTimestamp() != nil {
		return false
	}
	labels, there := w.namespaces(obj.GetNamespace())
	return there && cfg.Selects(labels)
}

// describe are the log keys that name a resource.
func (w *watched) describe(obj resource.Object) []any {
	return []any{
		"kind", w.kind, "namespace", obj.GetNamespace(), "name", obj.GetName(),
		"uid", obj.GetUID(), "resourceVersion", obj.GetResourceVersion(),
	}
}
