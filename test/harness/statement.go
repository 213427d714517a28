// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/json"
	"fmt"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
)

// Provenance is a strictly parsed attestation: a field that the bindings of in-toto and
// SLSA do not know is an error.
type Provenance struct {
	Statement *intoto.Statement
	Predicate *slsa.Provenance
}

// ParseProvenance parses a statement.
func ParseProvenance(payload []byte) (*Provenance, error) {
	p := &Provenance{Statement: &intoto.Statement{}, Predicate: &slsa.Provenance{}}
	if err := protojson.Unmarshal(payload, p.Statement); err != nil {
		return nil, fmt.Errorf("in-toto statement: %w", err)
	}
	predicate, err := protojson.Marshal(p.Statement.GetPredicate())
	if err != nil {
		return nil, err
	}
	if err := protojson.Unmarshal(predicate, p.Predicate); err != nil {
		return nil, fmt.Errorf("SLSA provenance: %w", err)
	}
	return p, nil
}

// Verification is one entry in the verification annotation of a dependency.
type Verification struct {
	Kind, Namespace, Name string
	Result, Reason, Mode  string
	Policy, KeyID         string
	PolicyScope, Tier     string
	Priority              int
	Shadow                *Verification
	RequestedBy           string
	PolicyRevision        struct{ UID, ResourceVersion, SpecSHA256 string }
	CheckedAt             string
	Policies              []Verification
	// Dependency is the dependency with the annotation.
	Dependency *intoto.ResourceDescriptor `json:"-"`
}

// Verifications returns the entries of all dependencies.
func (p *Provenance) Verifications() (all []Verification, err error) {
	for _, dependency := range p.Predicate.GetBuildDefinition().GetResolvedDependencies() {
		entries, err := verifications(dependency)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	return all, nil
}

// Summary is the byproduct with the overall result of a run.
type Summary struct {
	SchemaVersion int
	Result        string
	Counts        struct{ Passed, Failed, Skipped int }
	Tekton        struct{ Status, Message string }
	Agreement     string
	Overrides     []string
	Gate          struct {
		Decision, DecidedAt string
		Policies            []struct {
			Policy         string
			PolicyRevision struct{ UID, ResourceVersion, SpecSHA256 string }
		}
	}
	// Others are the entries of resources without a dependency.
	Others []Verification `json:"tekton_verification"`
}

// Summary returns the summary, or nil if the attestation has none.
func (p *Provenance) Summary() (*Summary, error) {
	for _, byproduct := range p.Predicate.GetRunDetails().GetByproducts() {
		if byproduct.GetName() == attestation.SummaryName {
			data, err := protojson.Marshal(byproduct.GetAnnotations())
			if err != nil {
				return nil, err
			}
			summary := &Summary{}
			return summary, json.Unmarshal(data, summary)
		}
	}
	return nil, nil
}

func verifications(dependency *intoto.ResourceDescriptor) (entries []Verification, err error) {
	value, found := dependency.GetAnnotations().GetFields()[attestation.VerificationAnnotation]
	if !found {
		return nil, nil
	}
	data, err := protojson.Marshal(value)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, err
	}
	for i := range entries {
		entries[i].Dependency = dependency
	}
	return entries, nil
}
