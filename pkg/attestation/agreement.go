package attestation

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Verifier verifies by the policies of a namespace.
type Verifier interface {
	Verify(ctx context.Context, namespace string, s policy.Input) (policy.Verdict, error)
}

// Keys says whether one of our own keys made a signature over a checksum, and
// which.
type Keys interface {
	Signer(signature, checksum []byte) (keyID string, ours bool)
}

// Assess verifies the resources behind a run by the policies of its namespace,
// and compares with Tekton's condition on the run.
func Assess(ctx context.Context, verifier Verifier, keys Keys, namespace string, items []dependencies.Item, condition *apis.Condition, now time.Time) Report {
	report := Report{CheckedAt: now, TektonStatus: "Absent"}
	if condition != nil {
		report.TektonStatus, report.TektonMessage = string(condition.Status), condition.Message
	}
	for _, item := range items {
		report.Records = append(report.Records, Record{Item: item, Verdict: assess(ctx, verifier, keys, namespace, item)})
	}
	report.compare(condition)
	return report
}

func assess(ctx context.Context, verifier Verifier, keys Keys, namespace string, item dependencies.Item) policy.Verdict {
	if item.Content == nil {
		return unverified(item.Gap, item.Message)
	}
	var first policy.Verdict
	for i, candidate := range item.Content.Signatures {
		verdict, err := verifier.Verify(ctx, namespace, policy.Input{
			Checksum: item.Content.Checksum, Signature: candidate, Source: item.Source.URI, NoMatch: item.NoMatch,
		})
		if err != nil {
			return unverified(policy.PolicyInvalid, err.Error())
		}
		if verdict.Result != policy.Failed {
			return verdict
		}
		if i == 0 {
			first = verdict
		}
	}
	return nameKey(first, keys, item.Content.Signatures[0], item.Content.Checksum)
}

// unverified is the verdict on what was not looked at. Content that is not what
// the run recorded is a failure; everything else only is not known.
func unverified(reason policy.Reason, message string) policy.Verdict {
	result := policy.Skipped
	if reason == policy.DigestMismatch {
		result = policy.Failed
	}
	return policy.Verdict{Outcome: policy.Outcome{Result: result, Reason: reason, Message: message}}
}

// nameKey tells a key of our own that the policy does not trust from a
// signature that nobody knows.
func nameKey(verdict policy.Verdict, keys Keys, candidate string, checksum []byte) policy.Verdict {
	if verdict.Reason != policy.SignatureInvalid {
		return verdict
	}
	signature, err := base64.StdEncoding.DecodeString(candidate)
	if err != nil {
		return verdict
	}
	if id, ours := keys.Signer(signature, checksum); ours {
		verdict.Reason, verdict.KeyID = policy.KeyUnknown, id
	}
	return verdict
}

// compare sets the agreement. Conditions of TaskRuns are reliable. The one of a
// PipelineRun is that of the resource which Tekton checked last, so it differs
// only if it is that of none, and not even then if Tekton checked resources that
// did not run.
func (r *Report) compare(condition *apis.Condition) {
	compared := 0
	possible := map[corev1.ConditionStatus]bool{}
	var pipeline *Record
	for i := range r.Records {
		record := &r.Records[i]
		if !record.Referenced || record.Kind == resource.StepAction || record.Content == nil {
			continue
		}
		expected := expectedStatus(record.Verdict)
		possible[expected] = true
		if record.Role == dependencies.Pipeline {
			pipeline = record
			continue
		}
		compared++
		if found := statusOf(record.Verified); found != expected {
			r.differs(record, found)
		}
	}
	if pipeline != nil {
		found := statusOf(condition)
		switch {
		case possible[found]:
			compared++
		case len(pipeline.NotRun) == 0:
			compared++
			r.differs(pipeline, found)
		}
	}
	switch {
	case len(r.Differing) > 0:
		r.Agreement = Differs
	case compared > 0:
		r.Agreement = Agrees
	default:
		r.Agreement = NotComparable
	}
}

const absent corev1.ConditionStatus = "Absent"

func statusOf(condition *apis.Condition) corev1.ConditionStatus {
	if condition == nil {
		return absent
	}
	return condition.Status
}

// expectedStatus is the condition that Tekton sets (prepare in
// pkg/reconciler/taskrun in tektoncd/pipeline).
func expectedStatus(v policy.Verdict) corev1.ConditionStatus {
	switch v.Tekton() {
	case trustedresources.VerificationPass:
		return corev1.ConditionTrue
	case trustedresources.VerificationSkip:
		return absent
	default:
		return corev1.ConditionFalse
	}
}

func (r *Report) differs(record *Record, found corev1.ConditionStatus) {
	r.Differing = append(r.Differing, fmt.Sprintf("%s %s: now %s %s, Tekton's condition %s is %s",
		record.Kind, record.Name, record.Result, record.Reason, trustedresources.ConditionTrustedResourcesVerified, found))
}
