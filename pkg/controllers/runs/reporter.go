package runs

import (
	"cmp"
	"context"
	"strings"

	"github.com/tektoncd/chains/pkg/chains/objects"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
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
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// ReasonVerificationDiffers is the reason of the Event on a run whose
// verification comes out otherwise than Tekton's did.
const ReasonVerificationDiffers = "VerificationDiffers"

// reporter reports on runs from what the cluster holds.
type reporter struct {
	config   func() *config.Config
	evidence dependencies.Collector
	verifier *policy.Verifier
	keys     ring
	events   *observe.Events
	metrics  *observe.Metrics
	clock    clock.PassiveClock
}

var _ attestation.Reporter = (*reporter)(nil)

func newReporter(ctx context.Context, env *environment.Environment) *reporter {
	objects := cached{}
	for _, kind := range resource.Kinds {
		objects[kind] = environment.Informer(ctx, kind).GetIndexer()
	}
	history := newSightings()
	env.Handle(ctx, taskruninformer.Get(ctx).Informer(), controller.HandleAll(history.see))
	env.Handle(ctx, pipelineruninformer.Get(ctx).Informer(), controller.HandleAll(history.see))
	watched := policyinformer.Get(ctx)
	verifier := policy.New(policies{watched.Lister()}, secrets{kubeclient.Get(ctx).CoreV1()}, clock.RealClock{})
	env.Handle(ctx, watched.Informer(), controller.HandleAll(func(item any) {
		if policy, err := kmeta.DeletionHandlingAccessor(item); err == nil {
			verifier.PoliciesChanged(policy.GetNamespace())
		}
	}))
	return &reporter{
		config: env.Config.Load,
		evidence: dependencies.Collector{
			Objects: objects, Requests: requests{resolutionclient.Get(ctx).ResolutionV1beta1()}, History: history, Stored: registries(env.Store),
		},
		verifier: verifier,
		keys:     env.Keys.Ring,
		events:   env.Events,
		metrics:  env.Metrics,
		clock:    clock.RealClock{},
	}
}

// Report implements attestation.Reporter.
func (r *reporter) Report(ctx context.Context, run any) (attestation.Report, bool) {
	if !r.config().Provenance {
		return attestation.Report{}, false
	}
	var items []dependencies.Item
	var condition *apis.Condition
	var about *corev1.ObjectReference
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		items = r.evidence.TaskRun(ctx, run.TaskRun)
		condition = run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified)
		about = reference(run.TaskRun, run.GetGroupVersionKind())
	case *objects.PipelineRunObjectV1:
		items = r.evidence.PipelineRun(ctx, run.PipelineRun, run.GetTaskRuns())
		condition = run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified)
		about = reference(run.PipelineRun, run.GetGroupVersionKind())
	default:
		return attestation.Report{}, false
	}
	report := attestation.Assess(ctx, r.verifier, r.keys, about.Namespace, items, condition, r.clock.Now())
	r.tell(ctx, about, report)
	return report, true
}

// tell logs the report, and makes a disagreement with Tekton known.
func (r *reporter) tell(ctx context.Context, about *corev1.ObjectReference, report attestation.Report) {
	logger := logging.FromContext(ctx).With("kind", about.Kind, "namespace", about.Namespace, "name", about.Name)
	for _, record := range report.Records {
		r.metrics.Verified(ctx, record.Kind, string(record.Result), string(record.Reason))
		if record.Result != policy.Passed {
			logger.Infow("Resource not verified", "resourceKind", record.Kind, "resource", record.Name,
				"result", record.Result, "reason", record.Reason, "policy", record.Policy, "message", cmp.Or(record.Message, record.Verdict.Message))
		}
	}
	if report.Agreement == attestation.Differs {
		differing := strings.Join(report.Differing, "; ")
		logger.Warnw("Verification differs from Tekton's", "differing", differing)
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

// ring says which of our keys made a signature.
type ring func() *keys.Ring

// Signer implements attestation.Keys.
func (r ring) Signer(signature, checksum []byte) (string, bool) {
	if key := r().Find(signature, checksum); key != nil {
		return key.ID, true
	}
	return "", false
}
