// SPDX-License-Identifier: Apache-2.0

// Package runs runs the reconcilers of Tekton Chains for TaskRuns and
// PipelineRuns, and reports on the runs that they attest to. The constructors of
// Chains read the signing secret from a fixed path. Those of this package take
// signers that were checked.
package runs

import (
	"context"

	"github.com/tektoncd/chains/pkg/chains"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	"github.com/tektoncd/chains/pkg/pipelinerunmetrics"
	chainsreconciler "github.com/tektoncd/chains/pkg/reconciler"
	"github.com/tektoncd/chains/pkg/reconciler/pipelinerun"
	"github.com/tektoncd/chains/pkg/reconciler/taskrun"
	"github.com/tektoncd/chains/pkg/taskrunmetrics"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	pipelineruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipelinerun"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	pipelinerunreconciler "github.com/tektoncd/pipeline/pkg/client/injection/reconciler/pipeline/v1/pipelinerun"
	taskrunreconciler "github.com/tektoncd/pipeline/pkg/client/injection/reconciler/pipeline/v1/taskrun"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	_ "github.com/tektoncd/chains/pkg/chains/formats/all" // registers the payload formats

	"github.com/trusted-resources/chains-extension/pkg/config"
)

// The names of the finalizers are those of Chains: this controller releases a run
// that a stock Chains marked, and the other way round.
const (
	taskRunFinalizer      = "chains.tekton.dev/taskrun"
	pipelineRunFinalizer  = "chains.tekton.dev/pipelinerun"
	finalizerFieldManager = "tekton-chains-controller/finalizers"
)

// Options are what the controllers of this package share.
type Options struct {
	Signers Signers
	Emitter Emitter
	// Namespaces limits the controllers to some namespaces. Empty means all namespaces.
	Namespaces []string
}

// NewTaskRunController returns Chains' controller of TaskRuns.
func NewTaskRunController(ctx context.Context, cmw configmap.Watcher, o Options) *controller.Impl {
	client := pipelineclient.Get(ctx)
	signer := newRunSigner(chains.ObjectSigner{Pipelineclientset: client, Recorder: taskrunmetrics.Get(ctx)}, kubeclient.Get(ctx), o.Signers, o.Emitter)
	impl := taskrunreconciler.NewImpl(ctx, &taskrun.Reconciler{TaskRunSigner: signer, Pipelineclientset: client},
		func(*controller.Impl) controller.Options { return chainsOptions(ctx, cmw, signer, taskRunFinalizer) })
	informer := taskruninformer.Get(ctx)
	guardReconciler(ctx, impl, o.Emitter, func(namespace, name string) *corev1.ObjectReference {
		run, err := informer.Lister().TaskRuns(namespace).Get(name)
		if err != nil {
			run = &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		}
		return reference(run, run.GetGroupVersionKind())
	})
	watch(ctx, informer.Informer(), chainsreconciler.TaskRunInformerFilterFunc(o.Namespaces), impl.Enqueue)
	return impl
}

// NewPipelineRunController returns Chains' controller of PipelineRuns.
func NewPipelineRunController(ctx context.Context, cmw configmap.Watcher, o Options) *controller.Impl {
	client := pipelineclient.Get(ctx)
	children := taskruninformer.Get(ctx)
	signer := newRunSigner(chains.ObjectSigner{Pipelineclientset: client, Recorder: pipelinerunmetrics.Get(ctx)}, kubeclient.Get(ctx), o.Signers, o.Emitter)
	r := &pipelinerun.Reconciler{PipelineRunSigner: signer, Pipelineclientset: client, TaskRunLister: children.Lister()}
	impl := pipelinerunreconciler.NewImpl(ctx, r,
		func(*controller.Impl) controller.Options {
			return chainsOptions(ctx, cmw, signer, pipelineRunFinalizer)
		})
	r.Tracker = impl.Tracker
	informer := pipelineruninformer.Get(ctx)
	guardReconciler(ctx, impl, o.Emitter, func(namespace, name string) *corev1.ObjectReference {
		run, err := informer.Lister().PipelineRuns(namespace).Get(name)
		if err != nil {
			run = &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		}
		return reference(run, run.GetGroupVersionKind())
	})
	watch(ctx, informer.Informer(), chainsreconciler.PipelineRunInformerFilterFunc(o.Namespaces), impl.Enqueue)
	// A PipelineRun is signed after its TaskRuns.
	watch(ctx, children.Informer(), chainsreconciler.TaskRunInformerFilterFuncWithOwnership(o.Namespaces), impl.EnqueueControllerOf)
	return impl
}

// chainsOptions returns the options of a reconciler of Chains. The signer gets
// each configuration in chains-config.
func chainsOptions(ctx context.Context, cmw configmap.Watcher, signer *runSigner, finalizer string) controller.Options {
	logger := logging.FromContext(ctx)
	store := chainsconfig.NewConfigStore(logger, func(_ string, value any) {
		cfg, ok := value.(*chainsconfig.Config)
		if !ok {
			logger.Errorf("chains-config was read as %T, expected %T", value, cfg)
			return
		}
		signer.configure(ctx, *cfg)
	})
	store.WatchConfigs(withoutToken{cmw})
	return controller.Options{
		ConfigStore:                     store,
		SkipStatusUpdates:               true, // only Tekton Pipelines writes the status of a run
		FinalizerName:                   finalizer,
		UseServerSideApplyForFinalizers: true,
		FinalizerFieldManager:           finalizerFieldManager,
	}
}

// withoutToken is a watcher that delivers ConfigMaps without the token of a KMS:
// knative logs each configuration of Chains at level debug.
type withoutToken struct{ configmap.Watcher }

// Watch implements configmap.Watcher.
func (w withoutToken) Watch(name string, observers ...configmap.Observer) {
	for _, observer := range observers {
		w.Watcher.Watch(name, func(cm *corev1.ConfigMap) { observer(config.WithoutToken(cm)) })
	}
}

func watch(ctx context.Context, informer cache.SharedIndexInformer, filter func(any) bool, enqueue func(any)) {
	if _, err := informer.AddEventHandler(cache.FilteringResourceEventHandler{
		FilterFunc: filter,
		Handler:    controller.HandleAll(enqueue),
	}); err != nil {
		logging.FromContext(ctx).Fatalw("Cannot watch runs", zap.Error(err))
	}
}
