// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"encoding/hex"
	"sync/atomic"

	"github.com/tektoncd/chains/pkg/chains/objects"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/verification"
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

// Start makes the Reporter report.
func (r *Reporter) Start(in Inputs) { r.reporter.Store(&reporter{in}) }

// Inputs are what the Reporter shares with the controllers.
type Inputs struct {
	Config   func() *config.Config
	Verifier *verification.Verifier
	// Ready reports whether everything has been read that a verification needs, and
	// whether the service account may read it. Until then, there are no reports.
	Ready   func() bool
	Emitter Emitter
	// Gate returns the decision of the gate about a TaskRun.
	Gate func(*v1.TaskRun) attestation.Gate
}

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// reporter reports on runs.
type reporter struct {
	Inputs
}

func (r *reporter) report(ctx context.Context, run any) (attestation.Report, bool) {
	if !r.Config().Provenance || !r.Ready() {
		return attestation.Report{}, false
	}
	about, condition := describe(run)
	if about == nil {
		return attestation.Report{}, false
	}
	ctx, span := observe.StartSpan(ctx, observe.StepVerify, about)
	defer span.End()
	records, overrides := r.verify(ctx, run)
	for i := range records {
		records[i].RequestedBy = r.requester(records[i])
	}
	report := attestation.NewReport(records, condition, r.Verifier.Clock.Now())
	report.Overrides, report.Gate = overrides, r.gate(run)
	span.Set("result", string(report.Result()))
	r.emit(ctx, about, report)
	return report, true
}

// requester returns the user whom a resource names as its requester, if a signature of
// this installation covers the name. Another signer may have let everybody choose it.
func (r *reporter) requester(record attestation.Record) string {
	if r.Config().Requester == config.RequesterOff || record.Result != policy.Passed || record.Content == nil {
		return ""
	}
	for _, encoded := range record.Content.Signatures {
		signature, err := resource.DecodeSignature(encoded)
		if err != nil {
			continue
		}
		if id, ours := r.Verifier.Keys.Signer(signature, record.Content.Checksum); ours && id == record.KeyID {
			return record.Content.RequestedBy
		}
	}
	return ""
}

// verify returns the records of the resources behind a run, and the fields of the run
// that no signature covers.
func (r *reporter) verify(ctx context.Context, run any) (records []attestation.Record, overrides []string) {
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		return r.Verifier.TaskRun(ctx, run.TaskRun), attestation.TaskRunOverrides(run.Spec)
	case *objects.PipelineRunObjectV1:
		taskRuns := run.GetTaskRuns()
		return r.Verifier.PipelineRun(ctx, run.PipelineRun, taskRuns), attestation.PipelineRunOverrides(run.PipelineRun, taskRuns)
	}
	return nil, nil
}

// gate returns the decision of the gate about a run.
func (r *reporter) gate(run any) attestation.Gate {
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		return r.Gate(run.TaskRun)
	case *objects.PipelineRunObjectV1:
		taskRuns := make([]attestation.Gate, 0, len(run.GetTaskRuns()))
		for _, tr := range run.GetTaskRuns() {
			taskRuns = append(taskRuns, r.Gate(tr))
		}
		return attestation.GateOf(taskRuns)
	}
	return attestation.Gate{}
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
	r.Emitter.Emit(ctx, observe.NotVerified{Run: about, Err: err})
	record := r.Verifier.Record(ctx, about.Namespace, d)
	return attestation.NewReport([]attestation.Record{record}, condition, r.Verifier.Clock.Now()), true
}

// describe returns a reference to a run, and Tekton's condition of it. Both are nil for
// what is no run.
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
		checksum, policyNamespace := "", about.Namespace
		if record.Content != nil {
			checksum = "sha256:" + hex.EncodeToString(record.Content.Checksum)
		}
		if record.Rank != nil {
			policyNamespace = ""
		}
		r.Emitter.Emit(ctx, observe.Verified{
			Run: about, Kind: record.Kind, Namespace: record.Namespace, Name: record.Name, Checksum: checksum,
			KeyID: record.KeyID, RequestedBy: record.RequestedBy, PolicyNamespace: policyNamespace, Result: string(record.Result), Reason: string(record.Reason),
			Policy: record.Policy, Mode: string(record.Mode), Message: record.Message,
			Passed: record.Result == policy.Passed, Failed: record.Result == policy.Failed, Source: record.Source.URI, Policies: outcomes(record.Verdict),
		})
	}
	if report.Agreement == attestation.Differs {
		r.Emitter.Emit(ctx, observe.VerificationDiffers{Run: about, Differing: report.Differences})
	}
}

func reference(run metav1.Object, kind schema.GroupVersionKind) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: v1.SchemeGroupVersion.String(), Kind: kind.Kind,
		Namespace: run.GetNamespace(), Name: run.GetName(), UID: run.GetUID(), ResourceVersion: run.GetResourceVersion(),
	}
}

// outcomes returns the outcome of each policy. Only the verdict has the reason of the policy
// that decided in full: it knows the keys of this installation.
func outcomes(v policy.Verdict) []observe.PolicyOutcome {
	all := make([]observe.PolicyOutcome, 0, len(v.Policies))
	for _, o := range v.Policies {
		if o.Policy == v.Policy && (o.Rank == nil) == (v.Rank == nil) {
			o = v.Outcome
		}
		all = append(all, observe.PolicyOutcome{
			Name: o.Policy, Cluster: o.Rank != nil, Mode: string(o.Mode), Result: string(o.Result), Reason: string(o.Reason), Failed: o.Result == policy.Failed,
		})
	}
	return all
}
