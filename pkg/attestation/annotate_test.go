// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

func annotate(t testing.TB, s *intoto.Statement, r Report) *slsa.Provenance {
	t.Helper()
	annotated, err := Annotate(s, r)
	if err != nil {
		t.Fatal(err)
	}
	p := parsed(t, annotated)
	if err := errors.Join(annotated.Validate(), p.Validate()); err != nil {
		t.Errorf("the statement is not valid: %v", err)
	}
	return p
}

func TestAnnotate_AddsVerificationToDependencyOfChains(t *testing.T) {
	p := annotate(t, statement(t, descriptor("task", catalog)), reportOf(record(dependency(dependencies.Task, "build"), outcome(policy.Passed, ""))))
	dependencies := p.GetBuildDefinition().GetResolvedDependencies()
	if len(dependencies) != 1 {
		t.Fatalf("got %d dependencies, want the one that Chains made", len(dependencies))
	}
	want := []any{map[string]any{
		"kind": "Task", "namespace": "ns", "name": "build", "result": "PASSED",
		"mode": "enforce", "policy": "policy", "policyRevision": revision, "keyId": key, "checkedAt": "2026-07-01T10:00:00Z",
	}}
	if got := annotation(t, dependencies[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Chains writes one dependency for each source, so the annotation is a list.
func TestAnnotate_GroupsRecordsBySource(t *testing.T) {
	another := v1.RefSource{URI: catalog.URI, Digest: map[string]string{"sha1": strings.Repeat("da", 20)}}
	passed := outcome(policy.Passed, "")
	for name, tc := range map[string]struct {
		dependencies []*intoto.ResourceDescriptor
		records      []Record
		want         []string // the names on each dependency
	}{
		"two Tasks of one source": {
			[]*intoto.ResourceDescriptor{descriptor("pipelineTask", catalog)},
			[]Record{record(dependency(dependencies.PipelineTask, "b"), passed), record(dependency(dependencies.PipelineTask, "a"), passed)},
			[]string{"a b"},
		},
		"another digest": {
			[]*intoto.ResourceDescriptor{descriptor("task", catalog), descriptor("task", another)},
			[]Record{record(dependency(dependencies.Task, "a", from(another)), passed)},
			[]string{"", "a"},
		},
		"another role": {
			[]*intoto.ResourceDescriptor{descriptor("pipeline", catalog), descriptor("pipelineTask", catalog)},
			[]Record{record(dependency(dependencies.PipelineTask, "a"), passed)},
			[]string{"", "a"},
		},
		"the same source in two roles": {
			[]*intoto.ResourceDescriptor{descriptor("pipeline", catalog)},
			[]Record{record(dependency(dependencies.PipelineTask, "a"), passed), record(dependency(dependencies.Pipeline, "p"), passed)},
			[]string{"p", "a"},
		},
		"a dependency without a role": {
			[]*intoto.ResourceDescriptor{descriptor("", catalog)},
			[]Record{record(dependency(dependencies.Task, "a"), passed)},
			[]string{"", "a"},
		},
		"a local Task, for which Chains writes nothing": {
			nil,
			[]Record{record(dependency(dependencies.Task, "a", from(localSource), local), passed)},
			[]string{"a"},
		},
		"no records": {[]*intoto.ResourceDescriptor{descriptor("task", catalog)}, nil, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			p := annotate(t, statement(t, tc.dependencies...), reportOf(tc.records...))
			dependencies := p.GetBuildDefinition().GetResolvedDependencies()
			got := make([]string, 0, len(dependencies))
			for _, d := range dependencies {
				got = append(got, names(t, d))
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got records %q on the dependencies, want %q", got, tc.want)
			}
		})
	}
}

func names(t *testing.T, d *intoto.ResourceDescriptor) string {
	t.Helper()
	entries := annotation(t, d)
	all := make([]string, 0, len(entries))
	for _, entry := range entries {
		all = append(all, fmt.Sprint(entry.(map[string]any)["name"]))
	}
	return strings.Join(all, " ")
}

func TestAnnotate_AddsMissingDependency(t *testing.T) {
	p := annotate(t, statement(t), reportOf(record(dependency(dependencies.Task, "build", from(localSource), local), outcome(policy.Passed, ""))))
	added := p.GetBuildDefinition().GetResolvedDependencies()[0]
	if added.GetName() != "task" || added.GetUri() != localSource.URI || !reflect.DeepEqual(added.GetDigest(), localSource.Digest) {
		t.Errorf("got %v", added)
	}
}

func TestAnnotate_ListsInlineSpecInSummary(t *testing.T) {
	inline := dependency(dependencies.Task, "run", from(v1.RefSource{}), without(policy.Inline), local)
	p := annotate(t, statement(t), reportOf(record(inline, policy.Verdict{Outcome: policy.Outcome{Result: policy.Skipped, Reason: policy.Inline}})))
	if added := p.GetBuildDefinition().GetResolvedDependencies(); len(added) != 0 {
		t.Errorf("a dependency was added: %v", added)
	}
	others, _ := summaryOf(t, p)[VerificationAnnotation].([]any)
	want := map[string]any{"kind": "Task", "namespace": "ns", "name": "run", "result": "SKIPPED", "reason": "Inline", "checkedAt": "2026-07-01T10:00:00Z"}
	if len(others) != 1 || !reflect.DeepEqual(others[0], want) {
		t.Errorf("got %v, want %v", others, want)
	}
}

func TestAnnotate_AddsSummary(t *testing.T) {
	passed, failed := record(dependency(dependencies.Task, "a"), outcome(policy.Passed, "")), record(dependency(dependencies.Task, "b"), outcome(policy.Failed, policy.Unsigned))
	skipped := record(dependency(dependencies.Task, "c"), outcome(policy.Skipped, policy.NoPolicy))
	for name, tc := range map[string]struct {
		records   []Record
		agreement Agreement
		want      string
		counts    map[string]any
	}{
		"all passed":                 {[]Record{passed, passed}, Agrees, "PASSED", map[string]any{"passed": 2.0, "failed": 0.0, "skipped": 0.0}},
		"all passed, Tekton differs": {[]Record{passed, passed}, Differs, "SKIPPED", map[string]any{"passed": 2.0, "failed": 0.0, "skipped": 0.0}},
		"one skipped":                {[]Record{passed, skipped}, Differs, "SKIPPED", map[string]any{"passed": 1.0, "failed": 0.0, "skipped": 1.0}},
		"one failed":                 {[]Record{passed, skipped, failed}, Differs, "FAILED", map[string]any{"passed": 1.0, "failed": 1.0, "skipped": 1.0}},
		"nothing to verify":          {nil, NotComparable, "SKIPPED", map[string]any{"passed": 0.0, "failed": 0.0, "skipped": 0.0}},
	} {
		t.Run(name, func(t *testing.T) {
			report := reportOf(tc.records...)
			report.TektonStatus, report.TektonMessage, report.Agreement = "False", "why", tc.agreement
			report.Overrides = []string{"params", "podTemplate.env"}
			want := map[string]any{
				"schemaVersion": 2.0, "overrides": []any{"params", "podTemplate.env"},
				"result": tc.want, "counts": tc.counts, "agreement": string(tc.agreement), "checkedAt": "2026-07-01T10:00:00Z",
				"tekton": map[string]any{"status": "False", "message": "why"},
			}
			if got := summaryOf(t, annotate(t, statement(t), report)); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestAnnotate_ListsEachPolicyIfSeveralMatch(t *testing.T) {
	verdict := outcome(policy.Failed, policy.SignatureInvalid)
	verdict.Policies = append(verdict.Policies, outcome(policy.Passed, "").Outcome)
	p := annotate(t, statement(t), reportOf(record(dependency(dependencies.Task, "a"), verdict)))
	entry := annotation(t, p.GetBuildDefinition().GetResolvedDependencies()[0])[0].(map[string]any)
	want := []any{
		map[string]any{"result": "FAILED", "reason": "SignatureInvalid", "mode": "enforce", "policy": "policy", "policyRevision": revision},
		map[string]any{"result": "PASSED", "mode": "enforce", "policy": "policy", "policyRevision": revision, "keyId": key},
	}
	if !reflect.DeepEqual(entry["policies"], want) {
		t.Errorf("got %v, want %v", entry["policies"], want)
	}
}

// everyRecord returns records that differ in one field each.
func everyRecord() (all []Record) {
	passed := outcome(policy.Passed, "")
	for _, role := range []dependencies.Role{dependencies.Pipeline, dependencies.PipelineTask, dependencies.Task, dependencies.StepAction} {
		for _, source := range []v1.RefSource{catalog, localSource, {}, {URI: catalog.URI}, {URI: catalog.URI, Digest: map[string]string{"sha1": strings.Repeat("da", 20)}}} {
			all = append(all, record(dependency(role, "a", from(source)), passed), record(dependency(role, "b", from(source)), passed),
				record(dependency(role, "a", from(source)), outcome(policy.Failed, policy.Unsigned)),
				record(dependency(role, "a", from(source)), outcome(policy.Failed, policy.SignatureInvalid)))
		}
	}
	return all
}

func TestAnnotate_DoesNotDependOnOrderOfRecords(t *testing.T) {
	s := statement(t, descriptor("task", catalog), descriptor("pipelineTask", catalog))
	records := everyRecord()
	want := decoded(t, must(Annotate(s, reportOf(records...))))
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a repeatable test needs no secrecy
	for range 200 {
		random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		if got := decoded(t, must(Annotate(s, reportOf(records...)))); !reflect.DeepEqual(got, want) {
			t.Fatal("the same records in another order make another attestation")
		}
	}
}

func TestAnnotate_DoesNotChangeItsInput(t *testing.T) {
	s, records := statement(t, descriptor("task", catalog)), everyRecord()
	before, recordsBefore := proto.Clone(s), everyRecord()
	annotate(t, s, reportOf(records...))
	if !proto.Equal(s, before) {
		t.Error("the statement was changed")
	}
	if !reflect.DeepEqual(records, recordsBefore) {
		t.Error("the report was changed")
	}
}

func TestAnnotate_KeepsTheRestOfTheStatement(t *testing.T) {
	s := statement(t, descriptor("task", catalog), &intoto.ResourceDescriptor{Name: "inputs/result", Uri: "git", Content: []byte("content")})
	fields := s.GetPredicate().GetFields()["buildDefinition"].GetStructValue().GetFields()
	fields["externalParameters"] = must(structpb.NewValue(map[string]any{"runSpec": map[string]any{"params": []any{1.5, true, nil, "text"}}}))
	annotated := must(Annotate(s, reportOf(record(dependency(dependencies.Task, "a"), outcome(policy.Passed, "")), record(dependency(dependencies.StepAction, "s"), outcome(policy.Passed, "")))))
	if got := decoded(t, withoutStatus(t, annotated)); !reflect.DeepEqual(got, decoded(t, s)) {
		t.Errorf("got %v, want %v", got, decoded(t, s))
	}
}

// withoutStatus returns the statement without the fields that Annotate adds.
func withoutStatus(t testing.TB, s *intoto.Statement) *intoto.Statement {
	t.Helper()
	p := parsed(t, s)
	definition, run := p.GetBuildDefinition(), p.GetRunDetails()
	var kept []*intoto.ResourceDescriptor
	for _, d := range definition.GetResolvedDependencies() {
		ours := len(annotation(t, d)) > 0
		if ours {
			delete(d.GetAnnotations().GetFields(), VerificationAnnotation)
			if len(d.GetAnnotations().GetFields()) == 0 {
				d.Annotations = nil
			}
		}
		if !ours || d.GetName() != string(dependencies.StepAction) && d.GetUri() != localSource.URI {
			kept = append(kept, d)
		}
	}
	definition.ResolvedDependencies = kept
	last := len(run.GetByproducts()) - 1
	if run.GetByproducts()[last].GetName() != SummaryName {
		t.Fatal("the summary is not the last byproduct")
	}
	run.Byproducts = run.GetByproducts()[:last]
	return &intoto.Statement{Type: s.GetType(), Subject: s.GetSubject(), PredicateType: s.GetPredicateType(), Predicate: must(write(p))}
}

func TestAnnotate_BoundsTextsAndMakesThemValid(t *testing.T) {
	for name, text := range map[string]string{
		"long":                   strings.Repeat("x", 100_000),
		"long, multi-byte runes": "x" + strings.Repeat("漢", 100_000),
		"not UTF-8":              "a\xff\xfeb",
		"control characters":     "a\x00\n\u2028b",
	} {
		t.Run(name, func(t *testing.T) {
			report := reportOf(record(dependency(dependencies.Task, text), outcome(policy.Passed, "")))
			report.TektonMessage = text
			p := annotate(t, statement(t), report)
			for _, got := range []any{
				summaryOf(t, p)["tekton"].(map[string]any)["message"],
				annotation(t, p.GetBuildDefinition().GetResolvedDependencies()[0])[0].(map[string]any)["name"],
			} {
				if s := got.(string); len(s) > maxText+utf8.UTFMax || !utf8.ValidString(s) || !strings.HasPrefix(s, text[:1]) {
					t.Errorf("got %d bytes: %.40q", len(s), s)
				}
			}
		})
	}
}

func TestAnnotate_AcceptsEmptyProvenance(t *testing.T) {
	s := &intoto.Statement{Predicate: &structpb.Struct{}}
	if err := protojson.Unmarshal([]byte(`{"buildDefinition":{},"runDetails":{}}`), s.GetPredicate()); err != nil {
		t.Fatal(err)
	}
	p := parsed(t, must(Annotate(s, reportOf(record(dependency(dependencies.Task, "a"), outcome(policy.Passed, ""))))))
	if got := names(t, p.GetBuildDefinition().GetResolvedDependencies()[0]); got != "a" || summaryOf(t, p)["result"] != "PASSED" {
		t.Errorf("got %v", p)
	}
}

func TestAnnotate_RejectsOtherPredicates(t *testing.T) {
	for name, s := range map[string]*intoto.Statement{
		"no statement":        nil,
		"no predicate":        {},
		"no build definition": {Predicate: must(structpb.NewStruct(map[string]any{"runDetails": map[string]any{}}))},
		"no run details":      {Predicate: must(structpb.NewStruct(map[string]any{"buildDefinition": map[string]any{}}))},
		"snake_case fields":   {Predicate: must(structpb.NewStruct(map[string]any{"build_definition": map[string]any{}, "run_details": map[string]any{}}))},
		"snake_case dependencies": {Predicate: must(structpb.NewStruct(map[string]any{
			"buildDefinition": map[string]any{"resolved_dependencies": []any{map[string]any{"name": "task"}}}, "runDetails": map[string]any{},
		}))},
		"SLSA v0.2": {Predicate: must(structpb.NewStruct(map[string]any{"buildType": "x", "invocation": map[string]any{}}))},
	} {
		if annotated, err := Annotate(s, reportOf()); err == nil {
			t.Errorf("%s: no error, got %v", name, annotated)
		}
	}
}
