// Package attestation writes into Chains' SLSA v1 provenance attestations
// whether the resources behind a build were verified, by which key, under which
// policy.
package attestation

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// Names in the attestation. Consumers of SLSA provenance ignore annotations
// that they do not know.
const (
	// VerificationAnnotation holds, on a dependency, the list of verifications
	// of the resources that it stands for.
	VerificationAnnotation = "tekton_verification"
	// SummaryName names the byproduct whose annotations sum the run up.
	SummaryName = "tekton_verificationSummary"
)

// Agreement says whether Tekton came to what we came to.
type Agreement string

// The agreements. Tekton's word and ours cannot be compared when Tekton
// verified nothing that we could: local references and StepActions.
const (
	Agrees        Agreement = "AGREES"
	Differs       Agreement = "DIFFERS"
	NotComparable Agreement = "NOT_COMPARABLE"
)

// Record is what is known of one resource behind a run.
type Record struct {
	dependencies.Item
	policy.Verdict
}

// Report is what is known of a run. It is all plain values: the same report
// always makes the same attestation.
type Report struct {
	Records   []Record
	CheckedAt time.Time
	// TektonStatus and TektonMessage are the run's condition
	// TrustedResourcesVerified as it stood: "True", "False", or "Absent".
	TektonStatus, TektonMessage string
	Agreement                   Agreement
	// Differing says in words where Agreement does.
	Differing []string
}

// Result is FAILED if one resource failed, and PASSED only if all passed.
func (r Report) Result() policy.Result {
	counts := r.counts()
	switch {
	case counts[policy.Failed] > 0:
		return policy.Failed
	case counts[policy.Skipped] > 0 || len(r.Records) == 0:
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

// sorted makes the attestation independent of the order of the evidence.
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

// key has all of a record that gets into the attestation.
func (r Record) key() string {
	data, err := json.Marshal([]any{r.Role, r.Kind, r.Namespace, r.Name, r.Source.URI, r.Source.Digest, r.values(time.Time{})})
	if err != nil {
		return "" // texts and maps of texts always can be written
	}
	return string(data)
}
