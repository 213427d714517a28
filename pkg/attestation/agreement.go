// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"fmt"
	"slices"

	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Agreement is the result of the comparison with Tekton's own verification.
type Agreement string

// The agreements. NotComparable means that Tekton verified none of the resources
// that were verified here: it verifies neither local references nor StepActions.
const (
	Agrees        Agreement = "AGREES"
	Differs       Agreement = "DIFFERS"
	NotComparable Agreement = "NOT_COMPARABLE"
)

// compare compares the verdicts with Tekton's conditions, and describes each
// difference: first those of TaskRuns, then that of the PipelineRun. condition is
// that of the run.
func compare(records []Record, condition *apis.Condition) (Agreement, []string) {
	var comparable []Record
	for _, record := range records {
		known := record.Content != nil || record.Result == policy.Failed // without a policy, because of its record or source
		if record.Resolved && record.Kind != resource.StepAction && known {
			comparable = append(comparable, record)
		}
	}
	compared := 0
	var differences []string
	for _, record := range comparable {
		if isPipeline(record) {
			continue
		}
		compared++
		if found := statusOf(record.Condition); found != expectedStatus(record.Verdict) {
			differences = append(differences, difference(record, found))
		}
	}
	if at := slices.IndexFunc(comparable, isPipeline); at >= 0 {
		found := statusOf(condition)
		switch {
		case expectedByOne(comparable, found):
			compared++
		case len(comparable[at].NotRun) == 0: // or the condition may be about a resource that did not run
			compared++
			differences = append(differences, difference(comparable[at], found))
		}
	}
	switch {
	case len(differences) > 0:
		return Differs, differences
	case compared > 0:
		return Agrees, nil
	default:
		return NotComparable, nil
	}
}

func isPipeline(record Record) bool { return record.Role == dependencies.Pipeline }

// expectedByOne reports whether the condition of a PipelineRun is the expected one
// for any of its resources. Tekton sets the condition for each resource that it
// verifies, so the condition is about the last one.
func expectedByOne(records []Record, found corev1.ConditionStatus) bool {
	return slices.ContainsFunc(records, func(record Record) bool { return expectedStatus(record.Verdict) == found })
}

const absent corev1.ConditionStatus = "Absent"

func statusOf(condition *apis.Condition) corev1.ConditionStatus {
	if condition == nil {
		return absent
	}
	return condition.Status
}

// expectedStatus returns the status of the condition that Tekton sets for a
// verdict (prepare in pkg/reconciler/taskrun in tektoncd/pipeline).
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

func difference(record Record, found corev1.ConditionStatus) string {
	return fmt.Sprintf("%s %s: now %s %s, Tekton's condition %s is %s",
		record.Kind, record.Name, record.Result, record.Reason, trustedresources.ConditionTrustedResourcesVerified, found)
}
