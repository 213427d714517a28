// SPDX-License-Identifier: Apache-2.0

// Package runs runs the reconcilers of Tekton Chains for TaskRuns and
// PipelineRuns, and reports on the runs that they attest to. The constructors of
// Chains read the signing secret from a fixed path. Those of this package take
// the path as an option.
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
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	pipelineruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipelinerun"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	pipelinerunreconciler "github.com/tektoncd/pipeline/pkg/client/injection/reconciler/pipeline/v1/pipelinerun"
	taskrunreconciler "github.com/tektoncd/pipeline/pkg/client/injection/reconciler/pipeline/v1/taskrun"
	"go.uber.org/zap"
	"k8s.io/client-go/tools/cache"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	_ "github.com/tektoncd/chains/pkg/chains/formats/all" // registers the payload formats
)

// The names of the finalizers are those of Chains: this controller releases a run
// that a stock Chains marked, and the other way round.
const (
	taskRunFinalizer      = "chains.tekton.dev/taskrun"
	pipelineRunFinalizer  = "chains.tekton.dev/pipelinerun"
	finalizerFieldManager = "tekton-chains-controller/finalizers"
)

// NewTaskRunController returns Chains' controller of TaskRuns. It reads the signing
// secret from secretsDir. An empty list of namespaces means all namespaces.
func NewTaskRunController(ctx context.Context, cmw configmap.Watcher, secretsDir string, namespaces []string) *controller.Impl {
	client := pipelineclient.Get(ctx)
	signer := newRunSigner(chains.ObjectSigner{SecretPath: secretsDir, Pipelineclientset: client, Recorder: taskrunmetrics.Get(ctx)}, kubeclient.Get(ctx))
	impl := taskrunreconciler.NewImpl(ctx, &taskrun.Reconciler{TaskRunSigner: signer, Pipelineclientset: client},
		func(*controller.Impl) controller.Options { return chainsOptions(ctx, cmw, signer, taskRunFinalizer) })
	watch(ctx, taskruninformer.Get(ctx).Informer(), chainsreconciler.TaskRunInformerFilterFunc(namespaces), impl.Enqueue)
	return impl
}

// NewPipelineRunController returns Chains' controller of PipelineRuns.
func NewPipelineRunController(ctx context.Context, cmw configmap.Watcher, secretsDir string, namespaces []string) *controller.Impl {
	client := pipelineclient.Get(ctx)
	taskRuns := taskruninformer.Get(ctx)
	signer := newRunSigner(chains.ObjectSigner{SecretPath: secretsDir, Pipelineclientset: client, Recorder: pipelinerunmetrics.Get(ctx)}, kubeclient.Get(ctx))
	r := &pipelinerun.Reconciler{PipelineRunSigner: signer, Pipelineclientset: client, TaskRunLister: taskRuns.Lister()}
	impl := pipelinerunreconciler.NewImpl(ctx, r,
		func(*controller.Impl) controller.Options {
			return chainsOptions(ctx, cmw, signer, pipelineRunFinalizer)
		})
	r.Tracker = impl.Tracker
	watch(ctx, pipelineruninformer.Get(ctx).Informer(), chainsreconciler.PipelineRunInformerFilterFunc(namespaces), impl.Enqueue)
	// A PipelineRun is signed after its TaskRuns.
	watch(ctx, taskRuns.Informer(), chainsreconciler.TaskRunInformerFilterFuncWithOwnership(namespaces), impl.EnqueueControllerOf)
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
	store.WatchConfigs(cmw)
	return controller.Options{
		ConfigStore:                     store,
		SkipStatusUpdates:               true, // only Tekton Pipelines writes the status of a run
		FinalizerName:                   finalizer,
		UseServerSideApplyForFinalizers: true,
		FinalizerFieldManager:           finalizerFieldManager,
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
