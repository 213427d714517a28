package resources

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/environment"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// base is what signing and storing have in common: the resources of one kind,
// which of them are ours to look after, and what is to be done about a
// signature.
type base struct {
	reconciler.LeaderAwareFuncs

	kind        resource.Kind
	indexer     cache.Indexer
	config      func() *config.Config
	namespaces  namespaceLabels
	release     func() error
	ring        func() *keys.Ring
	invalidate  func(signerType string)
	authorities decision.Authorities
	events      eventRecorder
	metrics     *observe.Metrics
}

// eventRecorder tells about an object; it does not wait.
type eventRecorder interface {
	Record(ctx context.Context, about *corev1.ObjectReference, event observe.Event)
}

var _ eventRecorder = (*observe.Events)(nil)

// namespaceLabels gives the labels of a namespace; false when there is none to
// sign in.
type namespaceLabels func(namespace string) (map[string]string, bool)

func newBase(ctx context.Context, kind resource.Kind, env *environment.Environment) *base {
	b := &base{
		kind:        kind,
		indexer:     environment.Informer(ctx, kind).GetIndexer(),
		config:      env.Config.Load,
		namespaces:  env.NamespaceLabels,
		release:     env.CheckRelease,
		ring:        env.Keys.Ring,
		invalidate:  env.Keys.Invalidate,
		authorities: newPolicyAuthorities(ctx),
		events:      env.Events,
		metrics:     env.Metrics,
	}
	b.PromoteFunc = b.enqueueAll
	return b
}

// maxRetryDelay is how long what fails again and again waits in the end.
const maxRetryDelay = 5 * time.Minute

// enqueue makes the controller that has r look at the resources when they, or
// what bears on them, change. What fails is tried again, first after
// firstRetryDelay.
func (b *base) enqueue(ctx context.Context, env *environment.Environment, r controller.Reconciler, queue string, firstRetryDelay time.Duration) *controller.Impl {
	impl := controller.NewContext(ctx, r, controller.ControllerOptions{
		WorkQueueName: config.Group + "." + queue,
		Logger:        logging.FromContext(ctx).Named(queue),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](firstRetryDelay, maxRetryDelay),
	})
	env.Handle(ctx, environment.Informer(ctx, b.kind), cache.FilteringResourceEventHandler{
		FilterFunc: env.InScope,
		Handler:    controller.HandleAll(impl.Enqueue),
	})
	env.OnChange(func(namespace string) {
		for _, item := range b.list(namespace) {
			if env.InScope(item) {
				impl.EnqueueSlow(item)
			}
		}
	})
	return impl
}

// list is what the cache holds of one namespace, or of all.
func (b *base) list(namespace string) []any {
	if namespace == environment.AllNamespaces {
		return b.indexer.List()
	}
	items, err := b.indexer.ByIndex(cache.NamespaceIndex, namespace)
	if err != nil {
		return b.indexer.List() // no such index: too many is safe
	}
	return items
}

// enqueueAll is how a new leader takes over.
func (b *base) enqueueAll(bucket reconciler.Bucket, enqueue func(reconciler.Bucket, types.NamespacedName)) error {
	for _, key := range b.indexer.ListKeys() {
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
func (b *base) get(key string) (resource.Object, error) {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return nil, err
	}
	if !b.IsLeaderFor(types.NamespacedName{Namespace: namespace, Name: name}) {
		return nil, nil //nolint:nilnil // there is none
	}
	item, exists, err := b.indexer.GetByKey(key)
	if err != nil || !exists {
		return nil, err
	}
	obj, ok := item.(resource.Object)
	if !ok {
		return nil, fmt.Errorf("the cache of kind %s holds a %T", b.kind, item)
	}
	if !b.eligible(obj) {
		return nil, nil //nolint:nilnil // there is none
	}
	return obj, nil
}

// eligible is the part of the decision that needs no key.
func (b *base) eligible(obj resource.Object) bool {
	cfg := b.config()
	if cfg.Signer(b.kind) == config.SignerNone || obj.GetDeletionTimestamp() != nil {
		return false
	}
	labels, there := b.namespaces(obj.GetNamespace())
	return there && cfg.Selects(labels)
}

// plan says what is to be done about the signature on a resource.
func (b *base) plan(ctx context.Context, obj resource.Object) (decision.Plan, error) {
	if err := b.release(); err != nil {
		return decision.Plan{}, fmt.Errorf("%w: %w", errRelease, err)
	}
	return decision.MakePlan(ctx, obj, b.config().Signer(b.kind), b.ring(), b.authorities)
}

// describe are the log keys that name a resource.
func (b *base) describe(obj resource.Object) []any {
	return []any{
		"kind", b.kind, "namespace", obj.GetNamespace(), "name", obj.GetName(),
		"uid", obj.GetUID(), "resourceVersion", obj.GetResourceVersion(),
	}
}
