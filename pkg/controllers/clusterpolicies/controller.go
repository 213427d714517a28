// SPDX-License-Identifier: Apache-2.0

package clusterpolicies

import (
	"context"
	"sync"
	"time"

	tektonlisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/inforce"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

const (
	// timeout bounds one look at all policies, with the reads of their keys.
	timeout = time.Minute
	// interval is the time between two looks that nothing has caused: Secrets and KMS may
	// have other keys, and somebody may have removed an admission policy.
	interval = 10 * time.Second
	// debounce is the time from a change of a namespace or of the configuration until a look:
	// there may be many such changes, and they only change the status.
	debounce = 5 * time.Second
	// soon is the time until the next look while the API server does not know the last
	// ConfigMap yet.
	soon = time.Second

	firstRetry, maxRetryDelay = time.Second, 30 * time.Second
)

// Client reads and writes ClusterVerificationPolicies.
type Client interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*v1alpha1.ClusterVerificationPolicy, error)
	List(ctx context.Context, o metav1.ListOptions) (*v1alpha1.ClusterVerificationPolicyList, error)
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
	UpdateStatus(ctx context.Context, p *v1alpha1.ClusterVerificationPolicy, o metav1.UpdateOptions) (*v1alpha1.ClusterVerificationPolicy, error)
}

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// Inputs are what the controller works with.
type Inputs struct {
	Client Client
	// Definition returns the CustomResourceDefinition of the policies.
	Definition func(ctx context.Context) (metav1.Object, error)
	Kube       kubernetes.Interface
	Namespaces corev1listers.NamespaceLister
	Keys       *Keys
	Followed   *Followed
	// InForce returns what the API server does with the Pods of TaskRuns now.
	InForce func(ctx context.Context) inforce.State
	// Policies are the VerificationPolicies of the namespaces.
	Policies tektonlisters.VerificationPolicyLister
	// Materialized writes the policies that ask for it into namespaces.
	Materialized Materializer
	// Guard returns why others may change what Materialized wrote.
	Guard func(ctx context.Context) error
	// Verdicts are those of the gate.
	Verdicts *Verdicts
	Emitter  Emitter
	// Changes calls its argument with each namespace whose labels or VerificationPolicies have
	// changed, and with all (empty) when other policies are in force.
	Changes func(func(namespace string))
}

// Materializer writes policies into namespaces; materializing.Writer implements it.
type Materializer interface {
	Run(ctx context.Context, leads func() bool, changed func())
	// Look looks at one namespace, or at all of them (empty).
	Look(namespace string)
	// SetCovered says whether the gate is in force by the last state of the policies.
	SetCovered(covered bool)
	// Of returns in how many namespaces a policy is synced, and where it is not.
	Of(clusterPolicy string) (synced int32, not []v1alpha1.PolicyNamespace)
}

// Controller writes the policies that are in force. All policies are one key of its queue:
// they share a ConfigMap.
type Controller struct {
	reconciler.LeaderAwareFuncs
	Inputs

	policies cache.SharedIndexInformer
	// stated and conflicting are what the last status of each policy says, so that Events are
	// sent once.
	stated      map[string]string
	conflicting map[string]int32
	// lastConflicts are those that were found last, by namespace.
	lastConflicts map[string]conflicts
	held          []string // the policies that stay in force although their definition is gone
}

var (
	_ controller.Reconciler  = (*Controller)(nil)
	_ reconciler.LeaderAware = (*Controller)(nil)
)

// all is the only key of the queue.
var all = types.NamespacedName{Name: "all"}

// NewController returns the controller.
func NewController(ctx context.Context, in Inputs) (*controller.Impl, error) {
	c := &Controller{Inputs: in, stated: map[string]string{}, conflicting: map[string]int32{}}
	impl := controller.NewContext(ctx, c, controller.ControllerOptions{
		WorkQueueName: v1alpha1.Group + ".clusterpolicies",
		Logger:        logging.FromContext(ctx).Named("clusterpolicies"),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](firstRetry, maxRetryDelay),
		Concurrency:   1,
	})
	enqueue := func() { impl.EnqueueKey(all) }
	c.PromoteFunc = func(reconciler.Bucket, func(reconciler.Bucket, types.NamespacedName)) error {
		enqueue()
		in.Materialized.Look("")
		return nil
	}
	c.policies = newInformer(in.Client)
	if _, err := c.policies.AddEventHandler(controller.HandleAll(func(any) { enqueue() })); err != nil {
		return nil, err
	}
	go func() {
		if in.Followed.Wait(ctx) == nil { // the rights were granted
			c.policies.RunWithContext(ctx)
		}
	}()
	later := func() { impl.EnqueueKeyAfter(all, debounce) }
	go in.Materialized.Run(ctx, func() bool { return c.IsLeaderFor(all) }, later)
	in.Followed.OnChange(enqueue)
	in.Changes(func(namespace string) {
		later()
		in.Materialized.Look(namespace)
	})
	go in.Verdicts.run(ctx, in.Client)
	return impl, nil
}

// newInformer returns an informer of all policies. It tries again while the
// CustomResourceDefinition is not installed.
func newInformer(client Client) cache.SharedIndexInformer {
	informer := cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return client.Watch(ctx, o)
		},
	}, &v1alpha1.ClusterVerificationPolicy{}, 0, nil)
	var once sync.Once
	_ = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if !apierrors.IsNotFound(err) {
			cache.DefaultWatchErrorHandler(ctx, r, err)
			return
		}
		once.Do(func() {
			logging.FromContext(ctx).Infow("ClusterVerificationPolicies are not installed: apply config/101-clusterverificationpolicies.yaml to use them", zap.Error(err))
		})
	})
	return informer
}

// Reconcile brings the ConfigMap and the status of all policies up to date.
func (c *Controller) Reconcile(ctx context.Context, key string) error {
	if !c.IsLeaderFor(all) {
		return controller.NewSkipKey(key)
	}
	if !c.policies.HasSynced() {
		return controller.NewRequeueAfter(firstRetry)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var known bool
	err := observe.Guard(func() (err error) {
		known, err = c.reconcile(ctx)
		return err
	})
	switch {
	case apierrors.IsConflict(err): // the next look sees what has changed
		return controller.NewRequeueAfter(firstRetry)
	case err != nil:
		return err
	case !known:
		return controller.NewRequeueAfter(soon)
	}
	return controller.NewRequeueAfter(interval)
}
