// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"

	"github.com/tektoncd/chains/pkg/chains/objects"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelineruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipelinerun"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	resolutionclient "github.com/tektoncd/pipeline/pkg/client/resolution/injection/client"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Reporter reports on the runs that Chains attests to. It is registered with
// Chains before the clients and informers exist, and reports once a controller
// was constructed with it.
type Reporter struct {
	reporter atomic.Pointer[reporter]
}

// Report implements attestation.ReportFunc. After a panic, the report says that
// nothing is known: without a report, the attestation would look like one that was
// made while the verification status was turned off.
func (r *Reporter) Report(ctx context.Context, run any) (report attestation.Report, wanted bool) {
	reporter := r.reporter.Load()
	if reporter == nil {
		return attestation.Report{}, false
	}
	ctx = withoutHandover(ctx)
	err := observe.Guard(func() error {
		report, wanted = reporter.report(ctx, run)
		return nil
	})
	if err != nil {
		return reporter.unknown(ctx, run, err)
	}
	return report, wanted
}

// Start makes the Reporter report with the clients and informers of the context.
func (r *Reporter) Start(ctx context.Context, in Inputs) error {
	made, err := newReporter(ctx, in)
	if err != nil {
		return err
	}
	r.reporter.Store(made)
	return nil
}

// Inputs are what the Reporter shares with the controllers.
type Inputs struct {
	Config func() *config.Config
	Keys   func() *keys.Ring
	// Dialect returns the dialect of the installed release of Tekton.
	Dialect func() tekton.Dialect
	// Store returns the place where bundles are stored, or nil if there is none.
	Store    func() *oci.Store
	Objects  dependencies.Objects
	Policies policy.Sources
	// Watched has the VerificationPolicies.
	Watched *informers.Watched
	// Ready reports whether Watched has been read, and whether the service account
	// may read what a verification needs. Until then, there are no reports.
	Ready    func() bool
	Handlers *informers.Handlers
	Emitter  Emitter
}

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// reporter reports on runs: it collects their dependencies, and evaluates the
// policies of the run's namespace on each.
type reporter struct {
	config    func() *config.Config
	ready     func() bool
	collector dependencies.Collector
	verifier  *policy.Verifier
	keys      ownKeys
	dialect   func() tekton.Dialect
	emitter   Emitter
	clock     clock.PassiveClock
}

func newReporter(ctx context.Context, in Inputs) (*reporter, error) {
	creations := newRunCreations()
	onRun := controller.HandleAll(creations.observe)
	watched := in.Watched.Policies()
	verifier := policy.New(policies{watched.Lister()}, in.Policies)
	onPolicy := controller.HandleAll(func(item any) {
		if name, err := cache.DeletionHandlingObjectToName(item); err == nil {
			verifier.PoliciesChanged(name.Namespace)
		}
	})
	err := errors.Join(
		in.Handlers.Add(taskruninformer.Get(ctx).Informer(), onRun),
		in.Handlers.Add(pipelineruninformer.Get(ctx).Informer(), onRun),
		in.Watched.Add(watched.Informer(), onPolicy),
	)
	return &reporter{
		config: in.Config,
		ready:  in.Ready,
		collector: dependencies.Collector{
			Objects:      in.Objects,
			Requests:     requests{resolutionclient.Get(ctx).ResolutionV1beta1()},
			Creations:    creations,
			Stored:       registry(in.Store),
			Repositories: repositories(in.Config),
		},
		verifier: verifier,
		keys:     in.Keys,
		dialect:  in.Dialect,
		emitter:  in.Emitter,
		clock:    clock.RealClock{},
	}, err
}

func (r *reporter) report(ctx context.Context, run any) (attestation.Report, bool) {
	if !r.config().Provenance || !r.ready() {
		return attestation.Report{}, false
	}
	collected, overrides, ok := r.collect(ctx, run)
	if !ok {
		return attestation.Report{}, false
	}
	about, condition := describe(run)
	records := make([]attestation.Record, 0, len(collected))
	for _, d := range collected {
		verdict := policy.Evaluate(ctx, r.verifier, r.keys, about.Namespace, d.PolicyResource())
		records = append(records, attestation.Record{Dependency: d, Verdict: verdict, RequestedBy: r.requester(d, verdict)})
	}
	report := attestation.NewReport(records, condition, r.clock.Now())
	report.Overrides = overrides
	r.emit(ctx, about, report)
	return report, true
}

// requester returns the user whom a resource names as its requester, if a signature of
// this installation covers the name. Another signer may have let everybody choose it.
func (r *reporter) requester(d dependencies.Dependency, verdict policy.Verdict) string {
	if r.config().Requester == config.RequesterOff || verdict.Result != policy.Passed || d.Content == nil {
		return ""
	}
	for _, encoded := range d.Content.Signatures {
		signature, err := resource.DecodeSignature(encoded)
		if err != nil {
			continue
		}
		if id, ours := r.keys.Signer(signature, d.Content.Checksum); ours && id == verdict.KeyID {
			return d.Content.RequestedBy
		}
	}
	return ""
}

// collect returns the dependencies of a run, and the fields of the run that no
// signature covers. ok is false for what is no run.
func (r *reporter) collect(ctx context.Context, run any) (collected []dependencies.Dependency, overrides []string, ok bool) {
	collector := r.collector
	collector.Stored, collector.Dialect = &lookups{from: r.collector.Stored, clock: r.clock}, r.dialect()
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		return collector.CollectTaskRun(ctx, run.TaskRun), attestation.TaskRunOverrides(run.Spec), true
	case *objects.PipelineRunObjectV1:
		taskRuns := run.GetTaskRuns()
		return collector.CollectPipelineRun(ctx, run.PipelineRun, taskRuns), attestation.PipelineRunOverrides(run.PipelineRun, taskRuns), true
	}
	return nil, nil, false
}

// unknown returns the report on a run whose verification panicked.
func (r *reporter) unknown(ctx context.Context, run any, err error) (attestation.Report, bool) {
	about, condition := describe(run)
	d := dependencies.Dependency{
		Role: dependencies.Task, Kind: resource.Task, Namespace: about.Namespace, Name: about.Name,
		Unavailable: policy.Unavailable{Reason: policy.ContentUnavailable, Message: err.Error()},
	}
	if _, pipeline := run.(*objects.PipelineRunObjectV1); pipeline {
		d.Role, d.Kind = dependencies.Pipeline, resource.Pipeline
	}
	verdict := policy.Evaluate(ctx, r.verifier, r.keys, about.Namespace, d.PolicyResource())
	r.emitter.Emit(ctx, observe.NotVerified{Run: about, Err: err})
	return attestation.NewReport([]attestation.Record{{Dependency: d, Verdict: verdict}}, condition, r.clock.Now()), true
}

// describe returns a reference to a run, and Tekton's condition of it.
func describe(run any) (about *corev1.ObjectReference, condition *apis.Condition) {
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		return reference(run.TaskRun, run.GetGroupVersionKind()), run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified)
	case *objects.PipelineRunObjectV1:
		return reference(run.PipelineRun, run.GetGroupVersionKind()), run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified)
	}
	return nil, nil
}

// emit emits the facts of a report.
func (r *reporter) emit(ctx context.Context, about *corev1.ObjectReference, report attestation.Report) {
	for _, record := range report.Records {
		r.emitter.Emit(ctx, observe.Verified{
			Run: about, Kind: record.Kind, Name: record.Name, Result: string(record.Result), Reason: string(record.Reason),
			Policy: record.Policy, Message: record.Message, Passed: record.Result == policy.Passed,
		})
	}
	if report.Agreement == attestation.Differs {
		r.emitter.Emit(ctx, observe.VerificationDiffers{Run: about, Differing: report.Differences})
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
	ring := k()
	if key := cmp.Or(ring.Find(signature, checksum), ring.FindRevoked(signature, checksum)); key != nil {
		return key.ID, true
	}
	return "", false
}

// Revoked implements policy.OwnKeys.
func (k ownKeys) Revoked(keyID string) bool { return k().Revoked(keyID) }
