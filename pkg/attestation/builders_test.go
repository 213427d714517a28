// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

var (
	now      = time.Date(2026, 7, 1, 12, 0, 0, 0, time.FixedZone("CEST", 2*60*60))
	checksum = []byte("checksum of what ran, 32 bytes..")
	key      = "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// revision is that of the policy of outcome, in the attestation.
var revision = map[string]any{"uid": "uid", "resourceVersion": "7", "specSha256": strings.Repeat("5a", 32)}

var catalog = v1.RefSource{URI: "git+https://git.example/catalog", Digest: map[string]string{"sha1": strings.Repeat("c0", 20)}, EntryPoint: "task.yaml"}

var localSource = v1.RefSource{
	URI:    "/apis/tekton.dev/v1/namespaces/ns/task/build@uid",
	Digest: map[string]string{"sha256": strings.Repeat("0f", 32)},
}

// dependency builds a resource that a resolver fetched, with its content.
func dependency(role dependencies.Role, name string, modifiers ...func(*dependencies.Dependency)) dependencies.Dependency {
	kinds := map[dependencies.Role]resource.Kind{dependencies.Pipeline: resource.Pipeline, dependencies.StepAction: resource.StepAction}
	kind, found := kinds[role]
	if !found {
		kind = resource.Task
	}
	d := dependencies.Dependency{
		Role: role, Kind: kind, Namespace: "ns", Name: name, Source: catalog, Resolved: true, NoMatch: policy.Skip,
		Content: &dependencies.Content{Checksum: checksum, Signatures: []string{"own"}},
	}
	for _, modify := range modifiers {
		modify(&d)
	}
	return d
}

func candidates(signatures ...string) func(*dependencies.Dependency) {
	return func(d *dependencies.Dependency) { d.Content.Signatures = signatures }
}

func without(reason policy.Reason) func(*dependencies.Dependency) {
	return func(d *dependencies.Dependency) {
		d.Content, d.Unavailable = nil, policy.Unavailable{Reason: reason, Message: "why"}
	}
}

func verified(condition *apis.Condition) func(*dependencies.Dependency) {
	return func(d *dependencies.Dependency) { d.Condition = condition }
}

func from(source v1.RefSource) func(*dependencies.Dependency) {
	return func(d *dependencies.Dependency) { d.Source = source }
}

func local(d *dependencies.Dependency) { d.Resolved = false }

func condition(status corev1.ConditionStatus) *apis.Condition {
	return &apis.Condition{Status: status, Message: "what Tekton says"}
}

func outcome(result policy.Result, reason policy.Reason) policy.Verdict {
	o := policy.Outcome{Policy: "policy", Mode: policy.Enforce, Result: result, Reason: reason}
	o.Revision = policy.Revision{UID: "uid", ResourceVersion: "7", SpecSHA256: strings.Repeat("5a", 32)}
	if result == policy.Passed {
		o.KeyID = key
	}
	return policy.Verdict{Outcome: o, Policies: []policy.Outcome{o}}
}

func record(d dependencies.Dependency, v policy.Verdict) Record {
	return Record{Dependency: d, Verdict: v}
}

func reportOf(records ...Record) Report {
	return Report{Records: records, CheckedAt: now, TektonStatus: "True", Agreement: Agrees}
}

// verdicts is a verifier with one verdict for each signature. It returns an error
// for every other input.
type verdicts map[string]policy.Verdict

var errUnreadable = errors.New("policies cannot be listed")

func (v verdicts) Verify(_ context.Context, namespace string, s policy.Input) (policy.Verdict, error) {
	verdict, known := v[s.Signature]
	if !known || namespace != "ns" || string(s.Checksum) != string(checksum) {
		return policy.Verdict{}, errUnreadable
	}
	return verdict, nil
}

// noKeys is an empty key ring.
type noKeys struct{}

func (noKeys) Signer(_, _ []byte) (string, bool) { return "", false }

func (noKeys) Revoked(string) bool { return false }

// reported returns the report on dependencies that are evaluated with the
// verifier.
func reported(t testing.TB, v policy.InputVerifier, condition *apis.Condition, ds ...dependencies.Dependency) Report {
	t.Helper()
	records := make([]Record, 0, len(ds))
	for _, d := range ds {
		records = append(records, record(d, policy.Evaluate(t.Context(), v, noKeys{}, "ns", d.PolicyResource())))
	}
	return NewReport(records, condition, now)
}

// descriptor builds a dependency as Chains writes it.
func descriptor(name string, source v1.RefSource) *intoto.ResourceDescriptor {
	return &intoto.ResourceDescriptor{Name: name, Uri: source.URI, Digest: source.Digest}
}

// statement builds a statement as Chains writes it.
func statement(t testing.TB, dependencies ...*intoto.ResourceDescriptor) *intoto.Statement {
	t.Helper()
	predicate := &slsa.Provenance{
		BuildDefinition: &slsa.BuildDefinition{
			BuildType:            "https://tekton.dev/chains/v2/slsa",
			ExternalParameters:   must(structpb.NewStruct(map[string]any{"runSpec": map[string]any{}})),
			ResolvedDependencies: dependencies,
		},
		RunDetails: &slsa.RunDetails{
			Builder:    &slsa.Builder{Id: "builder"},
			Metadata:   &slsa.BuildMetadata{InvocationId: "invocation"},
			Byproducts: []*intoto.ResourceDescriptor{{Name: "taskRunResults/run/log", Content: []byte(`"text"`)}},
		},
	}
	return &intoto.Statement{
		Type: intoto.StatementTypeUri, PredicateType: "https://slsa.dev/provenance/v1",
		Subject:   []*intoto.ResourceDescriptor{{Name: "image", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}}},
		Predicate: must(write(predicate)),
	}
}

// parsed returns the provenance as a strict consumer reads it.
func parsed(t testing.TB, s *intoto.Statement) *slsa.Provenance {
	t.Helper()
	again := &intoto.Statement{}
	if err := protojson.Unmarshal(must(protojson.Marshal(s)), again); err != nil {
		t.Fatal(err)
	}
	provenance, err := read(again.GetPredicate())
	if err != nil {
		t.Fatal(err)
	}
	return provenance
}

// decoded returns a message as decoded JSON. The white space of protojson varies.
func decoded(t testing.TB, message proto.Message) (value map[string]any) {
	t.Helper()
	if err := json.Unmarshal(must(protojson.Marshal(message)), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// annotation returns the verifications on a dependency.
func annotation(t testing.TB, d *intoto.ResourceDescriptor) []any {
	t.Helper()
	entries, _ := d.GetAnnotations().AsMap()[VerificationAnnotation].([]any)
	return entries
}

// summaryOf returns the annotations of the summary.
func summaryOf(t testing.TB, p *slsa.Provenance) map[string]any {
	t.Helper()
	var found map[string]any
	for _, byproduct := range p.GetRunDetails().GetByproducts() {
		if byproduct.GetName() == SummaryName {
			if found != nil {
				t.Error("there are two summaries")
			}
			found = byproduct.GetAnnotations().AsMap()
		}
	}
	if found == nil {
		t.Fatal("there is no summary")
	}
	return found
}

// write encodes a predicate as Chains does.
func write(provenance *slsa.Provenance) (*structpb.Struct, error) {
	predicate := &structpb.Struct{}
	data, err := protojson.Marshal(provenance)
	if err != nil {
		return nil, err
	}
	return predicate, protojson.Unmarshal(data, predicate)
}
