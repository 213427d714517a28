// Package runs puts Tekton Chains' own reconcilers for TaskRuns and
// PipelineRuns to work. Chains' constructors read the signing secret from a
// fixed path; these take any.
package runs

import (
	"context"

	"github.com/tektoncd/chains/pkg/chains"
	"github.com/tektoncd/chains/pkg/chains/storage"
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
	"knative.dev/pkg/injection"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/controllers/environment"

	_ "github.com/tektoncd/chains/pkg/chains/formats/all" // registers the payload formats
)

// The finalizers are part of Chains' contract with the cluster: a run that
// stock Chains marked must be released by us, and the other way round.
const (
	taskRunFinalizer      = "chains.tekton.dev/taskrun"
	pipelineRunFinalizer  = "chains.tekton.dev/pipelinerun"
	finalizerFieldManager = "tekton-chains-controller/finalizers"
)

// NewControllers makes Chains' two controllers, and has them write the
// verification status into what they sign.
func NewControllers(shared *environment.Source, options environment.Options) []injection.ControllerConstructor {
	return []injection.ControllerConstructor{
		func(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
			attestation.Register(newReporter(ctx, shared.Get(ctx, cmw)))
			return newTaskRunController(ctx, cmw, options.SecretsDir, options.Namespaces)
		},
		func(ctx context.Context, cmw configmap.Watcher) *controller.Impl {
			return newPipelineRunController(ctx, cmw, options.SecretsDir, options.Namespaces)
		},
	}
}

func newTaskRunController(ctx context.Context, cmw configmap.Watcher, secretsDir string, namespaces []string) *controller.Impl {
	client := pipelineclient.Get(ctx)
	signer := &chains.ObjectSigner{SecretPath: secretsDir, Pipelineclientset: client, Recorder: taskrunmetrics.Get(ctx)}
	impl := taskrunreconciler.NewImpl(ctx, &taskrun.Reconciler{TaskRunSigner: signer, Pipelineclientset: client},
		func(*controller.Impl) controller.Options { return chainsOptions(ctx, cmw, signer, taskRunFinalizer) })
	watch(ctx, taskruninformer.Get(ctx).Informer(), chainsreconciler.TaskRunInformerFilterFunc(namespaces), impl.Enqueue)
	return impl
}

func newPipelineRunController(ctx context.Context, cmw configmap.Watcher, secretsDir string, namespaces []string) *controller.Impl {
	client := pipelineclient.Get(ctx)
	taskRuns := taskruninformer.Get(ctx)
	signer := &chains.ObjectSigner{SecretPath: secretsDir, Pipelineclientset: client, Recorder: pipelinerunmetrics.Get(ctx)}
	r := &pipelinerun.Reconciler{PipelineRunSigner: signer, Pipelineclientset: client, TaskRunLister: taskRuns.Lister()}
	impl := pipelinerunreconciler.NewImpl(ctx, r,
		func(*controller.Impl) controller.Options {
			return chainsOptions(ctx, cmw, signer, pipelineRunFinalizer)
		})
	r.Tracker = impl.Tracker
	watch(ctx, pipelineruninformer.Get(ctx).Informer(), chainsreconciler.PipelineRunInformerFilterFunc(namespaces), impl.Enqueue)
	// A PipelineRun is signed after its TaskRuns, so their end matters to it.
	watch(ctx, taskRuns.Informer(), chainsreconciler.TaskRunInformerFilterFuncWithOwnership(namespaces), impl.EnqueueControllerOf)
	return impl
}

// chainsOptions follow chains-config with the storage backends that it names.
func chainsOptions(ctx context.Context, cmw configmap.Watcher, signer *chains.ObjectSigner, finalizer string) controller.Options {
	logger := logging.FromContext(ctx)
	stop := make(chan bool)
	store := chainsconfig.NewConfigStore(logger, func(_ string, value any) {
		select {
		case stop <- true: // the watch on the previous backends
		default:
		}
		cfg, ok := value.(*chainsconfig.Config)
		if !ok {
			logger.Errorf("chains-config was read as %T", value)
			return
		}
		backends, err := storage.InitializeBackends(ctx, pipelineclient.Get(ctx), kubeclient.Get(ctx), *cfg)
		if err != nil {
			logger.Errorw("Some storage backends of Tekton Chains cannot be used", zap.Error(err))
		}
		signer.Backends = backends
		if err := storage.WatchBackends(ctx, stop, backends, *cfg); err != nil {
			logger.Errorw("Some storage backends of Tekton Chains cannot be watched", zap.Error(err))
		}
	})
	store.WatchConfigs(cmw)
	return controller.Options{
		ConfigStore:                     store,
		SkipStatusUpdates:               true, // a run's status belongs to Tekton Pipelines
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
