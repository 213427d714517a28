// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
)

// Schema holds the two parts of docs/verification.schema.json.
type Schema struct{ Dependency, Summary *jsonschema.Schema }

// VerificationSchema returns the schema. It reads the file once.
var VerificationSchema = sync.OnceValues(func() (s Schema, err error) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	path := filepath.Join(Root(), "docs", "verification.schema.json")
	if s.Dependency, err = compiler.Compile(path + "#/$defs/" + attestation.VerificationAnnotation); err != nil {
		return s, err
	}
	s.Summary, err = compiler.Compile(path + "#/$defs/" + attestation.SummaryName)
	return s, err
})

// ValidateVerification validates the verification status in an attestation against the
// schema: the annotations of all dependencies, and exactly one summary.
func ValidateVerification(p *Provenance) error {
	schema, err := VerificationSchema()
	if err != nil {
		return err
	}
	var problems []error
	for _, dependency := range p.Predicate.GetBuildDefinition().GetResolvedDependencies() {
		value, found := dependency.GetAnnotations().GetFields()[attestation.VerificationAnnotation]
		if !found {
			continue
		}
		if err := schema.Dependency.Validate(value.AsInterface()); err != nil {
			problems = append(problems, fmt.Errorf("dependency %s: %w", dependency.GetUri(), err))
		}
	}
	summaries := 0
	for _, byproduct := range p.Predicate.GetRunDetails().GetByproducts() {
		if byproduct.GetName() != attestation.SummaryName {
			continue
		}
		summaries++
		if err := schema.Summary.Validate(byproduct.GetAnnotations().AsMap()); err != nil {
			problems = append(problems, fmt.Errorf("summary: %w", err))
		}
	}
	if summaries != 1 {
		problems = append(problems, fmt.Errorf("found %d byproducts %s, expected one", summaries, attestation.SummaryName))
	}
	return errors.Join(problems...)
}
