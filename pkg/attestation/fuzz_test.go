// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"testing"

	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// FuzzAnnotate checks that Annotate returns provenance with every record in it, or
// an error, for any predicate and any text.
func FuzzAnnotate(f *testing.F) {
	f.Add(must(protojson.Marshal(statement(f, descriptor("task", catalog)).GetPredicate())), "build", "uri")
	f.Add([]byte(`{"buildDefinition":{"resolvedDependencies":[{"annotations":{"tekton_verification":1}}]},"runDetails":{"byproducts":[null]}}`), "\xff", "\xff")
	f.Add([]byte(`{}`), "", "")
	f.Fuzz(func(t *testing.T, predicate []byte, name, uri string) {
		s := &intoto.Statement{Type: intoto.StatementTypeUri, Predicate: &structpb.Struct{}}
		if protojson.Unmarshal(predicate, s.GetPredicate()) != nil {
			return
		}
		before := proto.Clone(s)
		report := reportOf(
			record(dependency(dependencies.Task, name), outcome(policy.Passed, "")),
			record(dependency(dependencies.StepAction, name, func(d *dependencies.Dependency) { d.Source.URI = uri }), outcome(policy.Failed, policy.Unsigned)),
		)
		report.TektonMessage = name
		annotated, err := Annotate(s, report)
		if !proto.Equal(s, before) {
			t.Fatal("the statement was changed")
		}
		if err != nil {
			return
		}
		p := parsed(t, annotated)
		found := 0
		for _, d := range p.GetBuildDefinition().GetResolvedDependencies() {
			found += len(annotation(t, d))
		}
		byproducts := p.GetRunDetails().GetByproducts()
		others, _ := byproducts[len(byproducts)-1].GetAnnotations().AsMap()[VerificationAnnotation].([]any)
		if found+len(others) < len(report.Records) {
			t.Fatalf("got %d entries", found+len(others))
		}
	})
}
