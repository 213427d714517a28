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

func enrich(t testing.TB, s *intoto.Statement, r Report) *slsa.Provenance {
	t.Helper()
	enriched, err := Enrich(s, r)
	if err != nil {
		t.Fatal(err)
	}
	p := parsed(t, enriched)
	if err := errors.Join(enriched.Validate(), p.Validate()); err != nil {
		t.Errorf("not valid: %v", err)
	}
	return p
}

func TestADependencySaysWhatWasVerified(t *testing.T) {
	p := enrich(t, statement(t, dependency("task", catalog)), reportOf(record(item(dependencies.Task, "build"), outcome(policy.Passed, ""))))
	dependencies := p.GetBuildDefinition().GetResolvedDependencies()
	if len(dependencies) != 1 {
		t.Fatalf("got %d dependencies, want the one that Chains made", len(dependencies))
	}
	want := []any{map[string]any{
		"kind": "Task", "namespace": "ns", "name": "build", "result": "PASSED",
		"mode": "enforce", "policy": "policy", "keyId": key, "checkedAt": "2026-07-01T10:00:00Z",
	}}
	if got := annotation(t, dependencies[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Chains makes one dependency of each source, so our annotation is a list.
func TestWhatADependencyStandsFor(t *testing.T) {
	another := v1.RefSource{URI: catalog.URI, Digest: map[string]string{"sha1": strings.Repeat("da", 20)}}
	passed := outcome(policy.Passed, "")
	for name, tc := range map[string]struct {
		dependencies []*intoto.ResourceDescriptor
		records      []Record
		want         []string // the names on each dependency
	}{
		"two of one source": {
			[]*intoto.ResourceDescriptor{dependency("pipelineTask", catalog)},
			[]Record{record(item(dependencies.PipelineTask, "b"), passed), record(item(dependencies.PipelineTask, "a"), passed)},
			[]string{"a b"},
		},
		"another digest": {
			[]*intoto.ResourceDescriptor{dependency("task", catalog), dependency("task", another)},
			[]Record{record(item(dependencies.Task, "a", from(another)), passed)},
			[]string{"", "a"},
		},
		"another role": {
			[]*intoto.ResourceDescriptor{dependency("pipeline", catalog), dependency("pipelineTask", catalog)},
			[]Record{record(item(dependencies.PipelineTask, "a"), passed)},
			[]string{"", "a"},
		},
		"the same source in other roles": {
			[]*intoto.ResourceDescriptor{dependency("pipeline", catalog)},
			[]Record{record(item(dependencies.PipelineTask, "a"), passed), record(item(dependencies.Pipeline, "p"), passed)},
			[]string{"p", "a"},
		},
		"an image of that address": {
			[]*intoto.ResourceDescriptor{dependency("", catalog)},
			[]Record{record(item(dependencies.Task, "a"), passed)},
			[]string{"", "a"},
		},
		"a local Task, of which Chains says nothing": {
			nil,
			[]Record{record(item(dependencies.Task, "a", from(local), notReferenced), passed)},
			[]string{"a"},
		},
		"nothing known": {[]*intoto.ResourceDescriptor{dependency("task", catalog)}, nil, []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			p := enrich(t, statement(t, tc.dependencies...), reportOf(tc.records...))
			dependencies := p.GetBuildDefinition().GetResolvedDependencies()
			got := make([]string, 0, len(dependencies))
			for _, d := range dependencies {
				got = append(got, names(t, d))
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("the dependencies stand for %q, want %q", got, tc.want)
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

func TestAMissingDependencyIsAddedAsTheClusterResolverNamesIt(t *testing.T) {
	p := enrich(t, statement(t), reportOf(record(item(dependencies.Task, "build", from(local), notReferenced), outcome(policy.Passed, ""))))
	added := p.GetBuildDefinition().GetResolvedDependencies()[0]
	if added.GetName() != "task" || added.GetUri() != local.URI || !reflect.DeepEqual(added.GetDigest(), local.Digest) {
		t.Errorf("got %v", added)
	}
}

func TestWhatIsNoDependencyIsInTheSummary(t *testing.T) {
	inline := item(dependencies.Task, "run", from(v1.RefSource{}), without(policy.Inline), notReferenced)
	p := enrich(t, statement(t), reportOf(record(inline, unverified(policy.Inline, ""))))
	if added := p.GetBuildDefinition().GetResolvedDependencies(); len(added) != 0 {
		t.Errorf("a dependency was added: %v", added)
	}
	others, _ := summaryOf(t, p)[VerificationAnnotation].([]any)
	want := map[string]any{"kind": "Task", "namespace": "ns", "name": "run", "result": "SKIPPED", "reason": "Inline", "checkedAt": "2026-07-01T10:00:00Z"}
	if len(others) != 1 || !reflect.DeepEqual(others[0], want) {
		t.Errorf("got %v, want %v", others, want)
	}
}

func TestTheSummary(t *testing.T) {
	passed, failed := record(item(dependencies.Task, "a"), outcome(policy.Passed, "")), record(item(dependencies.Task, "b"), outcome(policy.Failed, policy.Unsigned))
	skipped := record(item(dependencies.Task, "c"), outcome(policy.Skipped, policy.NoPolicy))
	for name, tc := range map[string]struct {
		records []Record
		want    string
		counts  map[string]any
	}{
		"all passed":        {[]Record{passed, passed}, "PASSED", map[string]any{"passed": 2.0, "failed": 0.0, "skipped": 0.0}},
		"one skipped":       {[]Record{passed, skipped}, "SKIPPED", map[string]any{"passed": 1.0, "failed": 0.0, "skipped": 1.0}},
		"one failed":        {[]Record{passed, skipped, failed}, "FAILED", map[string]any{"passed": 1.0, "failed": 1.0, "skipped": 1.0}},
		"nothing to verify": {nil, "SKIPPED", map[string]any{"passed": 0.0, "failed": 0.0, "skipped": 0.0}},
	} {
		t.Run(name, func(t *testing.T) {
			report := reportOf(tc.records...)
			report.TektonStatus, report.TektonMessage, report.Agreement = "False", "why", Differs
			want := map[string]any{
				"result": tc.want, "counts": tc.counts, "agreement": "DIFFERS", "checkedAt": "2026-07-01T10:00:00Z",
				"tekton": map[string]any{"status": "False", "message": "why"},
			}
			if got := summaryOf(t, enrich(t, statement(t), report)); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestEachPolicyIsListedIfThereAreSeveral(t *testing.T) {
	verdict := outcome(policy.Failed, policy.SignatureInvalid)
	verdict.Policies = append(verdict.Policies, outcome(policy.Passed, "").Outcome)
	p := enrich(t, statement(t), reportOf(record(item(dependencies.Task, "a"), verdict)))
	entry := annotation(t, p.GetBuildDefinition().GetResolvedDependencies()[0])[0].(map[string]any)
	want := []any{
		map[string]any{"result": "FAILED", "reason": "SignatureInvalid", "mode": "enforce", "policy": "policy"},
		map[string]any{"result": "PASSED", "mode": "enforce", "policy": "policy", "keyId": key},
	}
	if !reflect.DeepEqual(entry["policies"], want) {
		t.Errorf("got %v, want %v", entry["policies"], want)
	}
}

// everyRecord has records that differ in one thing each.
func everyRecord() (all []Record) {
	passed := outcome(policy.Passed, "")
	for _, role := range []dependencies.Role{dependencies.Pipeline, dependencies.PipelineTask, dependencies.Task, dependencies.StepAction} {
		for _, source := range []v1.RefSource{catalog, local, {}, {URI: catalog.URI}, {URI: catalog.URI, Digest: map[string]string{"sha1": strings.Repeat("da", 20)}}} {
			all = append(all, record(item(role, "a", from(source)), passed), record(item(role, "b", from(source)), passed),
				record(item(role, "a", from(source)), outcome(policy.Failed, policy.Unsigned)),
				record(item(role, "a", from(source)), outcome(policy.Failed, policy.SignatureInvalid)))
		}
	}
	return all
}

func TestTheOrderOfTheEvidenceDoesNotMatter(t *testing.T) {
	s := statement(t, dependency("task", catalog), dependency("pipelineTask", catalog))
	records := everyRecord()
	want := decoded(t, must(Enrich(s, reportOf(records...))))
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a repeatable test needs no secrecy
	for range 200 {
		random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		if got := decoded(t, must(Enrich(s, reportOf(records...)))); !reflect.DeepEqual(got, want) {
			t.Fatal("the same evidence in another order makes another attestation")
		}
	}
}

func TestWhatIsGivenStaysAsItIs(t *testing.T) {
	s, records := statement(t, dependency("task", catalog)), everyRecord()
	before, recordsBefore := proto.Clone(s), everyRecord()
	enrich(t, s, reportOf(records...))
	if !proto.Equal(s, before) {
		t.Error("the statement was changed")
	}
	if !reflect.DeepEqual(records, recordsBefore) {
		t.Error("the report was changed")
	}
}

func TestAllElseOfTheStatementIsKept(t *testing.T) {
	s := statement(t, dependency("task", catalog), &intoto.ResourceDescriptor{Name: "inputs/result", Uri: "git", Content: []byte("content")})
	fields := s.GetPredicate().GetFields()["buildDefinition"].GetStructValue().GetFields()
	fields["externalParameters"] = must(structpb.NewValue(map[string]any{"runSpec": map[string]any{"params": []any{1.5, true, nil, "text"}}}))
	enriched := must(Enrich(s, reportOf(record(item(dependencies.Task, "a"), outcome(policy.Passed, "")), record(item(dependencies.StepAction, "s"), outcome(policy.Passed, "")))))
	if got := decoded(t, withoutStatus(t, enriched)); !reflect.DeepEqual(got, decoded(t, s)) {
		t.Errorf("got %v, want %v", got, decoded(t, s))
	}
}

// withoutStatus takes out all that Enrich may put in.
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
		if !ours || d.GetName() != string(dependencies.StepAction) && d.GetUri() != local.URI {
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

func TestTextsOfOthersAreBoundedAndValid(t *testing.T) {
	for name, text := range map[string]string{
		"long":                 strings.Repeat("x", 100_000),
		"long, of long runes":  "x" + strings.Repeat("漢", 100_000),
		"no UTF-8":             "a\xff\xfeb",
		"with control letters": "a\x00\n\u2028b",
	} {
		t.Run(name, func(t *testing.T) {
			report := reportOf(record(item(dependencies.Task, text), outcome(policy.Passed, "")))
			report.TektonMessage = text
			p := enrich(t, statement(t), report)
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

func TestProvenanceOfNothing(t *testing.T) {
	s := &intoto.Statement{Predicate: &structpb.Struct{}}
	if err := protojson.Unmarshal([]byte(`{"buildDefinition":{},"runDetails":{}}`), s.GetPredicate()); err != nil {
		t.Fatal(err)
	}
	p := parsed(t, must(Enrich(s, reportOf(record(item(dependencies.Task, "a"), outcome(policy.Passed, ""))))))
	if got := names(t, p.GetBuildDefinition().GetResolvedDependencies()[0]); got != "a" || summaryOf(t, p)["result"] != "PASSED" {
		t.Errorf("got %v", p)
	}
}

func TestOnlyProvenanceIsEnriched(t *testing.T) {
	for name, s := range map[string]*intoto.Statement{
		"no statement":        nil,
		"no predicate":        {},
		"no build definition": {Predicate: must(structpb.NewStruct(map[string]any{"runDetails": map[string]any{}}))},
		"no run details":      {Predicate: must(structpb.NewStruct(map[string]any{"buildDefinition": map[string]any{}}))},
		"other spellings":     {Predicate: must(structpb.NewStruct(map[string]any{"build_definition": map[string]any{}, "run_details": map[string]any{}}))},
		"another spelling": {Predicate: must(structpb.NewStruct(map[string]any{
			"buildDefinition": map[string]any{"resolved_dependencies": []any{map[string]any{"name": "task"}}}, "runDetails": map[string]any{},
		}))},
		"SLSA v0.2": {Predicate: must(structpb.NewStruct(map[string]any{"buildType": "x", "invocation": map[string]any{}}))},
	} {
		if enriched, err := Enrich(s, reportOf()); err == nil {
			t.Errorf("%s: no error, got %v", name, enriched)
		}
	}
}
