package runs

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/tektoncd/chains/pkg/chains/objects"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	pipelineruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipelinerun"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	policyinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1alpha1/verificationpolicy"
	resolutionclient "github.com/tektoncd/pipeline/pkg/client/resolution/injection/client"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	"knative.dev/pkg/apis"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/environment"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// ReasonVerificationDiffers is the reason of the Event on a run whose
// verification has another result than Tekton's.
const ReasonVerificationDiffers = "VerificationDiffers"

// Reporter reports on the runs that Chains attests to. It is registered with
// Chains before the clients and informers exist, and reports once a controller
// was constructed with it.
type Reporter struct {
	reporter atomic.Pointer[reporter]
}

// Report implements attestation.ReportFunc.
func (r *Reporter) Report(ctx context.Context, run any) (attestation.Report, bool) {
	reporter := r.reporter.Load()
	if reporter == nil {
		return attestation.Report{}, false
	}
	return reporter.report(ctx, run)
}

// start makes the Reporter report with the clients and informers of the context.
func (r *Reporter) start(ctx context.Context, env *environment.Environment) {
	r.reporter.Store(newReporter(ctx, env))
}

// reporter reports on runs: it collects their dependencies, and evaluates the
// policies of the run's namespace on each.
type reporter struct {
	config    func() *config.Config
	collector dependencies.Collector
	verifier  *policy.Verifier
	keys      ownKeys
	events    *observe.Events
	metrics   *observe.Metrics
	clock     clock.PassiveClock
}

func newReporter(ctx context.Context, env *environment.Environment) *reporter {
	creations := newRunCreations()
	env.Handle(ctx, taskruninformer.Get(ctx).Informer(), controller.HandleAll(creations.observe))
	env.Handle(ctx, pipelineruninformer.Get(ctx).Informer(), controller.HandleAll(creations.observe))
	watched := policyinformer.Get(ctx)
	verifier := policy.New(policies{watched.Lister()}, secrets{kubeclient.Get(ctx).CoreV1()}, clock.RealClock{})
	env.Handle(ctx, watched.Informer(), controller.HandleAll(func(item any) {
		if policy, err := kmeta.DeletionHandlingAccessor(item); err == nil {
			verifier.PoliciesChanged(policy.GetNamespace())
		}
	}))
	return &reporter{
		config: env.Config.Load,
		collector: dependencies.Collector{
			Objects:   liveObjects{pipelineclient.Get(ctx)},
			Requests:  requests{resolutionclient.Get(ctx).ResolutionV1beta1()},
			Creations: creations,
			Stored:    registry(env.Store),
		},
		verifier: verifier,
		keys:     env.Keys.Ring,
		events:   env.Events,
		metrics:  env.Metrics,
		clock:    clock.RealClock{},
	}
}

func (r *reporter) report(ctx context.Context, run any) (attestation.Report, bool) {
	if !r.config().Provenance {
		return attestation.Report{}, false
	}
	var collected []dependencies.Dependency
	var condition *apis.Condition
	var about *corev1.ObjectReference
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		collected = r.collector.CollectTaskRun(ctx, run.TaskRun)
		condition = run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified)
		about = reference(run.TaskRun, run.GetGroupVersionKind())
	case *objects.PipelineRunObjectV1:
		collected = r.collector.CollectPipelineRun(ctx, run.PipelineRun, run.GetTaskRuns())
		condition = run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified)
		about = reference(run.PipelineRun, run.GetGroupVersionKind())
	default:
		return attestation.Report{}, false
	}
	records := make([]attestation.Record, 0, len(collected))
	for _, d := range collected {
		verdict := policy.Evaluate(ctx, r.verifier, r.keys, about.Namespace, d.PolicyResource())
		records = append(records, attestation.Record{Dependency: d, Verdict: verdict})
	}
	report := attestation.NewReport(records, condition, r.clock.Now())
	r.emit(ctx, about, report)
	return report, true
}

// emit writes the report to the log and to the metrics, and records an Event if
// the verification has another result than Tekton's.
func (r *reporter) emit(ctx context.Context, about *corev1.ObjectReference, report attestation.Report) {
	logger := logging.FromContext(ctx).With("kind", about.Kind, "namespace", about.Namespace, "name", about.Name)
	for _, record := range report.Records {
		r.metrics.Verified(ctx, record.Kind, string(record.Result), string(record.Reason))
		if record.Result != policy.Passed {
			logger.Infow("Resource not verified", "resourceKind", record.Kind, "resource", record.Name,
				"result", record.Result, "reason", record.Reason, "policy", record.Policy, "message", record.Message)
		}
	}
	if report.Agreement == attestation.Differs {
		differing := strings.Join(report.Differences, "; ")
		logger.Warnw("The verification has another result than Tekton's", "differing", differing)
		r.metrics.Differed(ctx, about.Kind)
		r.events.Record(ctx, about, observe.Warning(ReasonVerificationDiffers, differing))
	}
}

func reference(run metav1.Object, kind schema.GroupVersionKind) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: v1.SchemeGroupVersion.String(), Kind: kind.Kind,
		Namespace: run.GetNamespace(), Name: run.GetName(), UID: run.GetUID(), ResourceVersion: run.GetResourceVersion(),
	}
}

// ownKeys returns the key ring of this installation.
type ownKeys func() *keys.Ring

var _ policy.OwnKeys = ownKeys(nil)

// Signer implements policy.OwnKeys.
func (k ownKeys) Signer(signature, checksum []byte) (string, bool) {
	if key := k().Find(signature, checksum); key != nil {
		return key.ID, true
	}
	return "", false
}
