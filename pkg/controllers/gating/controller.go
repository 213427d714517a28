// SPDX-License-Identifier: Apache-2.0

// Package gating has the controller that releases the held Pods of TaskRuns once all
// resources behind them are verified, or cancels the TaskRuns.
package gating

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	pipelineruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipelinerun"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	listers "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	"github.com/trusted-resources/chains-extension/pkg/attestation"
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
	// shares is how many namespaces can keep all the workers busy that one of them may
	// have. A KMS or a registry that hangs holds a worker. Workers mostly wait for
	// answers, so there are more of them than in other controllers.
	shares = 4
)

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// Modes say what happens to the runs of a namespace: v1alpha1.VerifyEnforce,
// v1alpha1.VerifyWarn, or nothing (any other text).
type Modes interface {
	// ModeOf returns the mode of a namespace with these labels.
	ModeOf(namespace map[string]string) string
	// ModeNow returns the mode by what the API server has now.
	ModeNow(ctx context.Context, namespace string) (string, error)
}

// Inputs are what the controller works with.
type Inputs struct {
	Config   func() *config.Config
	Modes    Modes
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
	// Decided gets the records of each run about which the gate has decided.
	Decided func(records []attestation.Record, at time.Time)
	// Changes calls its argument with each namespace whose policies, or all namespaces
	// (empty) whose configuration have changed.
	Changes func(func(namespace string))
	// ModesChanged calls its argument when ModeOf may have another answer for namespaces
	// whose labels are the same.
	ModesChanged func(func())
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
		Concurrency:   shares * controller.DefaultThreadsPerController,
	})
	c.turns = turns.New(impl.EnqueueKey, controller.DefaultThreadsPerController)
	impl.Reconciler = c.turns.Reconciler(c, c)
	c.PromoteFunc = func(bucket reconciler.Bucket, _ func(reconciler.Bucket, types.NamespacedName)) error {
		c.enqueueAll(bucket.Has)
		c.onTaskRunsOf(metav1.NamespaceAll)
		go c.watchLeftOver(ctx)
		return nil
	}
	c.enqueueAfter = impl.EnqueueKeyAfter
	return impl, c.watch(ctx)
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
	ctx, cancel := context.WithTimeout(observe.InTraceOf(ctx, tr.Status.SpanContext), timeout)
	defer cancel()
	err = observe.Guard(func() error { return c.reconcile(ctx, tr) })
	if errors.Is(err, observe.ErrPanicked) {
		c.Emitter.Emit(ctx, observe.GatePanicked{TaskRun: reference(tr), Err: err})
	}
	return err
}
