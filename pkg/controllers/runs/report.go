package runs

import (
	"cmp"
	"context"
	"errors"

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
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"knative.dev/pkg/apis"
	kubeclient "knative.dev/pkg/client/injection/kube/client"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// reporter reports on runs from what the cluster holds.
type reporter struct {
	config   func() *config.Config
	evidence dependencies.Collector
	verifier *policy.Verifier
	keys     ring
	emitter  Emitter
	clock    clock.PassiveClock
}

var _ attestation.Reporter = (*reporter)(nil)

// Inputs are what the controllers of runs share with the other controllers.
type Inputs struct {
	// SecretsDir is the directory in which the signing secret is mounted.
	SecretsDir string
	// Namespaces limits the controllers to some namespaces. Empty means all.
	Namespaces []string
	Config     func() *config.Config
	Keys       func() *keys.Ring
	// Store returns the place where bundles are stored, or nil if there is none.
	Store    func() *oci.Store
	Objects  dependencies.Objects
	Handlers *informers.Handlers
	Emitter  Emitter
}

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

func newReporter(ctx context.Context, in Inputs) (*reporter, error) {
	history := newSightings()
	see := cache.ResourceEventHandlerFuncs{AddFunc: history.see, UpdateFunc: func(_, item any) { history.see(item) }}
	watched := policyinformer.Get(ctx)
	verifier := policy.New(policies{watched.Lister()}, secrets{kubeclient.Get(ctx).CoreV1()}, clock.RealClock{})
	changed := func(item any) {
		if name, err := cache.DeletionHandlingObjectToName(item); err == nil {
			verifier.PoliciesChanged(name.Namespace)
		}
	}
	err := errors.Join(
		in.Handlers.Add(taskruninformer.Get(ctx).Informer(), see),
		in.Handlers.Add(pipelineruninformer.Get(ctx).Informer(), see),
		in.Handlers.Add(watched.Informer(), cache.ResourceEventHandlerFuncs{
			AddFunc: changed, UpdateFunc: func(_, item any) { changed(item) }, DeleteFunc: changed,
		}),
	)
	return &reporter{
		config: in.Config,
		evidence: dependencies.Collector{
			Objects: in.Objects, Requests: requests{resolutionclient.Get(ctx).ResolutionV1beta1()}, History: history, Stored: registries(in.Store),
		},
		verifier: verifier,
		keys:     in.Keys,
		emitter:  in.Emitter,
		clock:    clock.RealClock{},
	}, err
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

// tell emits the facts of a report.
func (r *reporter) tell(ctx context.Context, about *corev1.ObjectReference, report attestation.Report) {
	for _, record := range report.Records {
		r.emitter.Emit(ctx, observe.Verified{
			Run: about, Kind: record.Kind, Name: record.Name, Result: string(record.Result), Reason: string(record.Reason),
			Policy: record.Policy, Message: cmp.Or(record.Message, record.Verdict.Message), Passed: record.Result == policy.Passed,
		})
	}
	if report.Agreement == attestation.Differs {
		r.emitter.Emit(ctx, observe.VerificationDiffers{Run: about, Differing: report.Differing})
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
