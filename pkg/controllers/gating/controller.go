// SPDX-License-Identifier: Apache-2.0

// Package gating has the controller that releases the held Pods of TaskRuns once all
// resources behind them are verified, or cancels the TaskRuns.
package gating

import (
	"context"
	"errors"
	"slices"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	pipelineruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipelinerun"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	listers "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/controllers/turns"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/verification"
)

const (
	// timeout bounds the work on one TaskRun, with all calls to a KMS, a registry and
	// the API server.
	timeout = time.Minute
	// firstRetry and maxRetryDelay bound the delay until a TaskRun is decided again
	// that waits for something that nobody announces.
	firstRetry    = time.Second
	maxRetryDelay = 30 * time.Second
	// shareOfNamespace is the part of the workers that one namespace may keep busy: one
	// of so many. A KMS or a registry that hangs holds a worker.
	shareOfNamespace = 4
	// unseen is how long the Pod of a TaskRun may be missing in the cache.
	unseen = 5 * time.Second
)

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// Inputs are what the controller works with.
type Inputs struct {
	Config   func() *config.Config
	Verifier *verification.Verifier
	Watched  *informers.Watched
	Handlers *informers.Handlers
	Kube     kubernetes.Interface
	Tekton   versioned.Interface
	Emitter  Emitter
	// Ready reports whether the policies and namespaces were read. Nothing is decided
	// before: without policies, every resource would look unmatched.
	Ready func() bool
	// Scope limits the controller to some namespaces. Empty means all namespaces.
	Scope []string
	// Rights are asked for when a namespace has the label for the first time.
	Rights Rights
	// Decisions gets what was decided.
	Decisions *Decisions
	// Changes calls its argument with each namespace whose policies, or all namespaces
	// (empty) whose configuration have changed.
	Changes func(func(namespace string))
}

// Controller decides about held Pods. Its keys are those of TaskRuns.
type Controller struct {
	reconciler.LeaderAwareFuncs
	Inputs

	pods         *pods
	taskRuns     listers.TaskRunLister
	pipelineRuns listers.PipelineRunLister
	namespaces   corev1listers.NamespaceLister
	delays       *flowcontrol.Backoff // by UID of the Pod
	began        time.Time            // of this process
	turns        *turns.Turns
	enqueueAfter func(types.NamespacedName, time.Duration)
}

var (
	_ controller.Reconciler  = (*Controller)(nil)
	_ reconciler.LeaderAware = (*Controller)(nil)
)

// NewController returns the controller. It watches Pods once a namespace asks for it.
func NewController(ctx context.Context, in Inputs) (*controller.Impl, error) {
	pods, err := newPods(ctx, in.Kube)
	if err != nil {
		return nil, err
	}
	c := &Controller{
		Inputs: in, pods: pods,
		taskRuns: taskruninformer.Get(ctx).Lister(), pipelineRuns: pipelineruninformer.Get(ctx).Lister(),
		namespaces: in.Watched.Namespaces().Lister(),
		delays:     flowcontrol.NewBackOff(firstRetry, maxRetryDelay),
		began:      time.Now(),
	}
	impl := controller.NewContext(ctx, c, controller.ControllerOptions{
		WorkQueueName: v1alpha1.Group + ".gate",
		Logger:        logging.FromContext(ctx).Named("gate"),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](firstRetry, maxRetryDelay),
	})
	c.turns = turns.New(impl.EnqueueKey, max(1, impl.Concurrency/shareOfNamespace))
	impl.Reconciler = c.turns.Reconciler(c, c)
	c.PromoteFunc = func(bucket reconciler.Bucket, _ func(reconciler.Bucket, types.NamespacedName)) error {
		c.enqueueAll(bucket.Has)
		go c.watchLeftOver(ctx)
		return nil
	}
	c.enqueueAfter = impl.EnqueueKeyAfter
	return impl, c.watch(ctx)
}

// enqueueAll enqueues the TaskRuns whose Pods wait.
func (c *Controller) enqueueAll(wanted func(types.NamespacedName) bool) {
	for _, key := range c.pods.taskRuns() {
		if wanted(key) {
			c.turns.Add(key, turns.Checked)
		}
	}
}

// watch makes everything that a decision depends on enqueue the TaskRuns that wait.
func (c *Controller) watch(ctx context.Context) error {
	_, err := c.pods.informer.AddEventHandler(controller.HandleAll(func(item any) {
		if key, ok := taskRunOf(item); ok {
			c.turns.Add(key, turns.Changed)
		}
	}))
	c.Changes(func(namespace string) {
		c.enqueueAll(func(key types.NamespacedName) bool { return namespace == "" || key.Namespace == namespace })
	})
	return errors.Join(err,
		c.Handlers.Add(taskruninformer.Get(ctx).Informer(), controller.HandleAll(c.onTaskRun)),
		c.Handlers.Add(pipelineruninformer.Get(ctx).Informer(), controller.HandleAll(c.onPipelineRun)),
		c.Watched.Add(c.Watched.Namespaces().Informer(), controller.HandleAll(func(item any) { c.onNamespace(ctx, item) })),
	)
}

// onTaskRun enqueues a TaskRun that waits for a decision.
func (c *Controller) onTaskRun(item any) {
	tr, ok := item.(*v1.TaskRun)
	switch {
	case !ok:
	case len(c.pods.of(key(tr))) > 0 || c.wantsWarning(tr):
		c.turns.Add(key(tr), turns.Changed)
	case c.starts(tr): // its Pod should be in the cache soon
		c.enqueueAfter(key(tr), unseen)
	}
}

func (c *Controller) onPipelineRun(item any) {
	pr, ok := item.(*v1.PipelineRun)
	if !ok {
		return
	}
	for _, child := range pr.Status.ChildReferences {
		name := types.NamespacedName{Namespace: pr.Namespace, Name: child.Name}
		if len(onlyHeld(c.pods.of(name))) > 0 {
			c.turns.Add(name, turns.Changed)
		}
	}
}

func (c *Controller) onNamespace(ctx context.Context, item any) {
	ns, ok := item.(*corev1.Namespace)
	if !ok {
		return
	}
	switch ns.Labels[v1alpha1.VerifyLabel] {
	case v1alpha1.VerifyEnforce:
		c.pods.start(ctx, c.Rights)
		c.onTaskRunsOf(ns.Name)
	case v1alpha1.VerifyWarn:
		c.onTaskRunsOf(ns.Name)
	}
	c.enqueueAll(func(key types.NamespacedName) bool { return key.Namespace == ns.Name })
}

// onTaskRunsOf looks at the TaskRuns that arrived before the label of their namespace.
func (c *Controller) onTaskRunsOf(namespace string) {
	found, err := c.taskRuns.TaskRuns(namespace).List(labels.Everything())
	if err != nil {
		return // not possible: the lister reads from a cache
	}
	for _, tr := range found {
		c.onTaskRun(tr)
	}
}

// watchLeftOver watches Pods if one is held although no namespace has the label.
func (c *Controller) watchLeftOver(ctx context.Context) {
	held, err := c.pods.anyHeld(ctx)
	if apierrors.IsForbidden(err) {
		return // nothing could be released either; reported once a namespace has the label
	}
	if err != nil && ctx.Err() == nil {
		logging.FromContext(ctx).Infow("Cannot look for held Pods, they stay held until a namespace has the label "+v1alpha1.VerifyLabel, zap.Error(err))
	}
	if held {
		c.pods.start(ctx, c.Rights)
	}
}

func key(tr *v1.TaskRun) types.NamespacedName {
	return types.NamespacedName{Namespace: tr.Namespace, Name: tr.Name}
}

// Reconcile decides about the held Pods of the TaskRun with this key.
func (c *Controller) Reconcile(ctx context.Context, key string) error {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return controller.NewPermanentError(err)
	}
	if !c.IsLeaderFor(name.AsNamespacedName()) || len(c.Scope) > 0 && !slices.Contains(c.Scope, name.Namespace) {
		return controller.NewSkipKey(key)
	}
	if !c.Ready() {
		return controller.NewRequeueAfter(firstRetry)
	}
	tr, err := c.taskRuns.TaskRuns(name.Namespace).Get(name.Name)
	if apierrors.IsNotFound(err) {
		return controller.NewSkipKey(key) // the garbage collector deletes its Pod
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = observe.Guard(func() error { return c.reconcile(ctx, tr) })
	if errors.Is(err, observe.ErrPanicked) {
		c.Emitter.Emit(ctx, observe.GatePanicked{TaskRun: reference(tr), Err: err})
	}
	return err
}
