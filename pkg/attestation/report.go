// SPDX-License-Identifier: Apache-2.0

// Package attestation writes into the SLSA v1 provenance attestations of Chains
// whether the resources that a run depends on were verified, by which key, and
// under which policy.
package attestation

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// Names in the attestation. Consumers of SLSA provenance ignore annotations
// that they do not know.
const (
	// VerificationAnnotation is the annotation of a dependency that lists the
	// verifications of its resources.
	VerificationAnnotation = "tekton_verification"
	// SummaryName is the name of the byproduct whose annotations summarize the run.
	SummaryName = "tekton_verificationSummary"
	// SchemaVersion is the version of docs/verification.schema.json that the
	// annotations follow. Version 1 does not name its version.
	SchemaVersion = 2
)

// Record is a resource that a run depends on, with the verdict on it.
type Record struct {
	dependencies.Dependency
	policy.Verdict
	// RequestedBy is the user who made or approved the content, if the verified signature
	// says that. It is empty otherwise.
	RequestedBy string
}

// Report is the verification status of a run. It holds plain values: the same
// report always makes the same attestation.
type Report struct {
	Records   []Record
	CheckedAt time.Time
	// TektonStatus and TektonMessage are those of the run's condition
	// TrustedResourcesVerified. The status is "True", "False", or "Absent".
	TektonStatus, TektonMessage string
	Agreement                   Agreement
	// Differences describes each difference from Tekton's conditions.
	Differences []string
	// Overrides are the fields of the run that no signature covers, as
	// TaskRunOverrides and PipelineRunOverrides return them.
	Overrides []string
	// Gate is what the gate decided before the run started. The zero value stands for
	// nothing known, and is left out.
	Gate Gate
}

// NewReport returns the report on a run. condition is the run's condition
// TrustedResourcesVerified, nil if the run has none.
func NewReport(records []Record, condition *apis.Condition, checkedAt time.Time) Report {
	report := Report{Records: records, CheckedAt: checkedAt, TektonStatus: string(statusOf(condition))}
	if condition != nil {
		report.TektonMessage = condition.Message
	}
	report.Agreement, report.Differences = compare(records, condition)
	return report
}

// Result returns Failed if a resource failed, Passed if all resources passed and
// Tekton agrees, and Skipped otherwise.
func (r Report) Result() policy.Result {
	counts := r.counts()
	switch {
	case counts[policy.Failed] > 0:
		return policy.Failed
	case counts[policy.Skipped] > 0 || len(r.Records) == 0 || r.Agreement == Differs:
		return policy.Skipped
	default:
		return policy.Passed
	}
}

func (r Report) counts() map[policy.Result]int {
	counts := map[policy.Result]int{}
	for _, record := range r.Records {
		counts[record.Result]++
	}
	return counts
}

// sorted returns the records in an order that depends on their content only.
func sorted(records []Record) []Record {
	type keyed struct {
		key    string
		record Record
	}
	all := make([]keyed, 0, len(records))
	for _, record := range records {
		all = append(all, keyed{record.key(), record})
	}
	slices.SortFunc(all, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	sorted := make([]Record, 0, len(all))
	for _, k := range all {
		sorted = append(sorted, k.record)
	}
	return sorted
}

// key returns a text with every field of a record that the attestation contains.
func (r Record) key() string {
	data, err := json.Marshal([]any{r.Role, r.Kind, r.Namespace, r.Name, r.Source.URI, r.Source.Digest, r.values(time.Time{})})
	if err != nil {
		return "" // not possible: texts and maps of texts can always be encoded
	}
	return string(data)
}
