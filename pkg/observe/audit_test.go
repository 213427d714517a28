// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// kept are audit records.
type kept struct {
	appended, written []audit.Record
	err               error // of Write
}

func (k *kept) Append(r audit.Record) { k.appended = append(k.appended, r) }

func (k *kept) Write(_ context.Context, r audit.Record) error {
	k.written = append(k.written, r)
	return k.err
}

// recordsOf emits a fact and returns its audit records.
func recordsOf(t *testing.T, f Fact) []audit.Record {
	t.Helper()
	emitter, err := NewEmitter(&recorded{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, log := logging.WithLogger(t.Context(), zap.NewNop().Sugar()), &kept{}
	emitter.Audit(ctx, log)
	emitter.Emit(ctx, f)
	return log.appended
}

// errorText is in errors, and may be in no record.
const errorText = "text of an error"

var (
	key, previousKey = audit.HashOf([]byte("key")).String(), audit.HashOf([]byte("previous")).String()
	checksum         = audit.HashOf([]byte("content"))
	attempt          = Attempt{ID: uuid.NewString(), RequestedBy: "alice", PreviousKeyID: previousKey, Took: 1500 * time.Microsecond}

	auditedTask = &resource.Summary{
		Kind: resource.Task, Namespace: "ns", Name: "build", UID: "task-uid", ResourceVersion: "7",
		Checksums: resource.Checksums{tekton.Newest: checksum},
	}
	auditedRun    = &corev1.ObjectReference{APIVersion: "tekton.dev/v1", Kind: "TaskRun", Namespace: "ns", Name: "run", UID: "run-uid", ResourceVersion: "8"}
	auditedRing   = &corev1.ObjectReference{APIVersion: "trustedresources.tekton.dev/v1alpha1", Kind: "KeyRing", Namespace: "tekton-chains", Name: "default", UID: "ring-uid"}
	auditedPolicy = &corev1.ObjectReference{APIVersion: "trustedresources.tekton.dev/v1alpha1", Kind: "ClusterVerificationPolicy", Name: "signed", UID: "policy-uid", ResourceVersion: "9"}
)

// auditedFact is a fact with its record.
type auditedFact struct {
	fact Fact
	want audit.Record // without ID
}

func auditedFacts() map[string]auditedFact {
	task := audit.Object{APIVersion: "tekton.dev/v1", Kind: "Task", Namespace: "ns", Name: "build", UID: "task-uid", ResourceVersion: "7"}
	signedTask := task
	signedTask.Checksum = checksum.String()
	run := audit.Object{APIVersion: "tekton.dev/v1", Kind: "TaskRun", Namespace: "ns", Name: "run", UID: "run-uid", ResourceVersion: "8"}
	ring := audit.Object{APIVersion: "trustedresources.tekton.dev/v1alpha1", Kind: "KeyRing", Namespace: "tekton-chains", Name: "default", UID: "ring-uid"}
	policy := audit.Object{APIVersion: "trustedresources.tekton.dev/v1alpha1", Kind: "ClusterVerificationPolicy", Name: "signed", UID: "policy-uid", ResourceVersion: "9"}
	signed := Signed{Resource: auditedTask, Reason: decision.ContentChanged, KeyID: key, Dialect: tekton.Newest, Attempt: attempt}
	of := func(t audit.Type, outcome audit.Outcome, reason string) audit.Record {
		return audit.Record{
			Type: t, Outcome: outcome, Object: &signedTask, Attempt: attempt.ID, KeyID: key, DurationMs: 1.5,
			RequestedBy: &audit.User{User: "alice", Basis: "signed-annotation"}, Why: &audit.Why{Reason: reason, PreviousKeyID: previousKey},
		}
	}
	other := func(t audit.Type, outcome audit.Outcome, why audit.Why) audit.Record {
		return audit.Record{Type: t, Outcome: outcome, Object: &task, Why: &why}
	}
	key27 := func(t audit.Type) audit.Record {
		return audit.Record{Type: t, Outcome: audit.Success, Object: &ring, KeyID: key, Why: &audit.Why{Message: "key 2027"}}
	}
	gate := func(t audit.Type, why audit.Why) audit.Record {
		return audit.Record{Type: t, Outcome: audit.Success, Run: &run, Why: &why}
	}
	verified := func(outcome audit.Outcome, reason, result string, policy *audit.Policy) audit.Record {
		return audit.Record{
			Type: audit.Verification, Outcome: outcome, Run: &run, Why: &audit.Why{Reason: reason}, Result: result, Policy: policy, KeyID: key,
			Object: &audit.Object{Kind: "Task", Namespace: "lib", Name: "build", Checksum: checksum.String()}, RequestedBy: &audit.User{User: "alice", Basis: "signed-annotation"},
		}
	}
	withKey := func(r audit.Record, reference string) audit.Record { r.KeyID, r.Reference = key, reference; return r }
	tasks := schema.GroupResource{Group: "tekton.dev", Resource: "tasks"}
	broken := errors.New(errorText)
	return map[string]auditedFact{
		"signed": {signed, of(audit.ResourceSigned, audit.Success, "ContentChanged")},
		"no key": {AttemptFailed{Signed: signed, Err: broken}, of(audit.ResourceSignFailed, audit.Failure, "SignerFailed")},
		"blocked": {
			AttemptFailed{Signed: signed, Err: errors.Join(audit.ErrNotWritten, broken)},
			of(audit.ResourceSignFailed, audit.Failure, "AuditLogFailed"),
		},
		"refused by the API server": {
			AttemptFailed{Signed: signed, Sent: true, Err: apierrors.NewConflict(tasks, "build", broken)},
			of(audit.ResourceSignFailed, audit.Failure, "Conflict"),
		},
		"error of the API server": {
			AttemptFailed{Signed: signed, Sent: true, Err: apierrors.NewInternalError(broken)},
			of(audit.ResourceSignFailed, audit.Unknown, "InternalError"),
		},
		"no answer": {
			AttemptFailed{Signed: signed, Sent: true, Err: io.ErrUnexpectedEOF}, of(audit.ResourceSignFailed, audit.Unknown, "NoAnswer"),
		},
		"without an attempt": {
			NotSigned{Resource: auditedTask, Reason: v1alpha1.ReasonNoKey, Err: broken},
			other(audit.ResourceSignFailed, audit.Failure, audit.Why{Reason: "NoSigningKey"}),
		},
		"uploaded": {
			Stored{Resource: auditedTask, Reference: "registry.example/ns@sha256:1", Tag: "t", KeyID: key, Uploaded: true},
			withKey(other(audit.ResourceStored, audit.Success, audit.Why{Reason: "ResourceStored"}), "registry.example/ns@sha256:1"),
		},
		"earlier state": {
			EarlierStateRestored{Resource: auditedTask, KeyID: key},
			withKey(other(audit.ResourceRestoredEarlierState, audit.Unknown, audit.Why{Reason: "EarlierStateRestored"}), ""),
		},
		"passed a policy of the namespace": {
			Verified{
				Run: auditedRun, Kind: resource.Task, Namespace: "lib", Name: "build", Checksum: checksum.String(), KeyID: key, RequestedBy: "alice",
				PolicyNamespace: "ns", Policy: "own", Mode: "enforce", Result: "PASSED", Reason: "SignatureValid", Message: errorText, Passed: true,
			},
			verified(audit.Success, "SignatureValid", "PASSED", &audit.Policy{Namespace: "ns", Name: "own", Mode: "enforce"}),
		},
		"failed a policy for the cluster": {
			Verified{
				Run: auditedRun, Kind: resource.Task, Namespace: "lib", Name: "build", Checksum: checksum.String(), KeyID: key, RequestedBy: "alice",
				Policy: "all", Mode: "warn", Result: "FAILED", Reason: "SignatureInvalid", Failed: true,
			},
			verified(audit.Failure, "SignatureInvalid", "FAILED", &audit.Policy{Name: "all", Mode: "warn"}),
		},
		"no policy": {
			Verified{
				Run: auditedRun, Kind: resource.Task, Namespace: "lib", Name: "build", Checksum: checksum.String(), KeyID: key, RequestedBy: "alice",
				Result: "SKIPPED", Reason: "NoMatchingPolicy",
			},
			verified(audit.Unknown, "NoMatchingPolicy", "SKIPPED", nil),
		},
		"differs": {
			VerificationDiffers{Run: auditedRun, Differing: []string{"a", "b"}},
			audit.Record{Type: audit.VerificationDiffers, Outcome: audit.Failure, Run: &run, Why: &audit.Why{Reason: "VerificationDiffers", Message: "a; b"}},
		},
		"released":      {GateReleased{TaskRun: auditedRun, Warnings: []string{"a", "b"}}, gate(audit.RunReleased, audit.Why{Message: "a; b"})},
		"run refused":   {GateRefused{TaskRun: auditedRun, Why: "unsigned"}, gate(audit.RunRefused, audit.Why{Reason: "RunRefused", Message: "unsigned"})},
		"opened":        {GateOpened{TaskRun: auditedRun}, gate(audit.RunReleased, audit.Why{Reason: "RunReleasedUnverified", Message: "the namespace is not enforced any more"})},
		"active":        {KeyChanged{KeyRing: auditedRing, Name: "2027", KeyID: key, State: v1alpha1.KeyActive}, key27(audit.KeyActivated)},
		"retired":       {KeyChanged{KeyRing: auditedRing, Name: "2027", KeyID: key, State: v1alpha1.KeyRetired}, key27(audit.KeyRetired)},
		"revoked":       {KeyChanged{KeyRing: auditedRing, Name: "2027", KeyID: key, State: v1alpha1.KeyRevoked}, key27(audit.KeyRevoked)},
		"configuration": {ConfigLoaded{SignerTypes: []string{"x509"}, Namespaces: "all"}, audit.Record{Type: audit.ConfigLoaded, Outcome: audit.Success, Why: &audit.Why{Message: "signers [x509], namespaces all"}}},
		"wrong configuration": {
			ConfigRefused{&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "tekton-chains", Name: "chains-config", UID: "cm-uid", ResourceVersion: "3"}}, broken},
			audit.Record{Type: audit.ConfigRefused, Outcome: audit.Failure, Why: &audit.Why{Reason: "ConfigRefused"}, Object: &audit.Object{
				APIVersion: "v1", Kind: "ConfigMap", Namespace: "tekton-chains", Name: "chains-config", UID: "cm-uid", ResourceVersion: "3",
			}},
		},
		"policy in force": {
			ClusterPolicyReady{Policy: auditedPolicy, Ready: true, Why: "all namespaces"},
			audit.Record{Type: audit.PolicyChanged, Outcome: audit.Success, Object: &policy, Why: &audit.Why{Reason: "PolicyInForce", Message: "all namespaces"}},
		},
		"policy not in force": {
			ClusterPolicyReady{Policy: auditedPolicy, Why: "bad key"},
			audit.Record{Type: audit.PolicyChanged, Outcome: audit.Failure, Object: &policy, Why: &audit.Why{Reason: "PolicyNotInForce", Message: "bad key"}},
		},
	}
}

func TestEmitter_TurnsFactsIntoAuditRecords(t *testing.T) {
	valid := recordSchema(t)
	for name, tc := range auditedFacts() {
		t.Run(name, func(t *testing.T) {
			records := recordsOf(t, tc.fact)
			if len(records) != 1 {
				t.Fatalf("got the records %+v, want one", records)
			}
			got := records[0]
			if again := recordsOf(t, tc.fact)[0]; again.ID != got.ID {
				t.Errorf("the same fact has the IDs %s and %s", got.ID, again.ID)
			}
			valid(t, got)
			got.ID = ""
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got  %s\nwant %s", inJSON(t, got), inJSON(t, tc.want))
			}
		})
	}
}

// Records about something else have another ID.
func TestEmitter_GivesRecordsIDs(t *testing.T) {
	signed := Signed{Resource: auditedTask, KeyID: key}
	otherKey, otherContent, otherTask := signed, signed, signed
	otherKey.KeyID = previousKey
	changed, named := *auditedTask, *auditedTask
	changed.Checksums, named.UID = resource.Checksums{}, "other"
	otherContent.Resource, otherTask.Resource = &changed, &named
	verified := Verified{Run: auditedRun, Kind: resource.Task, Name: "build", Policy: "own", Result: "FAILED"}
	otherRun, otherPolicy, otherResult := verified, verified, verified
	otherRun.Run, otherPolicy.Policy, otherResult.Result = auditedRing, "all", "PASSED"
	seen := map[string]bool{}
	for i, fact := range []Fact{signed, otherKey, otherContent, otherTask, verified, otherRun, otherPolicy, otherResult} {
		id := recordsOf(t, fact)[0].ID
		if seen[id] {
			t.Errorf("fact %d has the ID of another one", i)
		}
		seen[id] = true
	}
}

// recordSchema returns a function that compares a record with docs/audit.schema.json, and
// that fails if the record has the text of an error.
func recordSchema(t *testing.T) func(*testing.T, audit.Record) {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	compiled, err := compiler.Compile("../../docs/audit.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, r audit.Record) {
		t.Helper()
		r.Stream, r.Seq, r.Time = uuid.NewString(), 1, time.Now().UTC()
		line, err := audit.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(line)))
		if err != nil {
			t.Fatal(err)
		}
		if err := compiled.Validate(value); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		if strings.Contains(string(line), errorText) {
			t.Errorf("the record has the text of an error: %s", line)
		}
	}
}

func inJSON(t *testing.T, r audit.Record) string {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Before a resource is signed, the record is written, and not only queued.
func TestAnnounce_WaitsForTheRecord(t *testing.T) {
	emitter, err := NewEmitter(&recorded{})
	if err != nil {
		t.Fatal(err)
	}
	fact := Signing{Resource: auditedTask, Reason: decision.Unsigned, KeyID: key, Attempt: Attempt{ID: attempt.ID}}
	if err := emitter.Announce(t.Context(), fact); err != nil {
		t.Errorf("without an audit log: %v", err)
	}
	log := &kept{err: audit.ErrNotWritten}
	emitter.Audit(t.Context(), log)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}})
	if err := emitter.Announce(trace.ContextWithSpanContext(t.Context(), span), fact); !errors.Is(err, audit.ErrNotWritten) {
		t.Errorf("got error %v, want the one of the log", err)
	}
	if len(log.written) != 1 || len(log.appended) > 0 {
		t.Fatalf("got %+v", log)
	}
	got := log.written[0]
	recordSchema(t)(t, got)
	if got.Type != audit.ResourceSigning || got.Outcome != "" || got.Attempt != attempt.ID || got.KeyID != key || got.Why.Reason != "Unsigned" ||
		got.Object.Checksum != checksum.String() || got.RequestedBy != nil || got.TraceID != span.TraceID().String() {
		t.Errorf("got %s", inJSON(t, got))
	}
}

// These facts have other traces than a record.
func TestEmitter_RecordsNoOtherFacts(t *testing.T) {
	for name, fact := range map[string]Fact{
		"an attempt has its own record": NotSigned{Resource: auditedTask, Reason: v1alpha1.ReasonRefused, Err: Recorded(io.EOF)},
		"stored before":                 Stored{Resource: auditedTask, Reference: "registry.example/ns@sha256:1"},
		"not stored":                    NotStored{Resource: auditedTask, Reason: v1alpha1.ReasonNotStored, Err: io.EOF},
		"a key waits":                   KeyChanged{KeyRing: auditedRing, Name: "2027", KeyID: key, State: v1alpha1.KeyPending},
		"a key still verifies":          KeyChanged{KeyRing: auditedRing, Name: "2027", KeyID: key, State: v1alpha1.KeyRetiring},
		"the gate waits":                GateWaits{TaskRun: auditedRun, Why: "unknown"},
		"the gate warns":                GateWarned{TaskRun: auditedRun, Refused: "unsigned"},
	} {
		if records := recordsOf(t, fact); len(records) > 0 {
			t.Errorf("%s: got %+v", name, records)
		}
	}
}

// Each type of the schema is made by a fact or by the audit log itself, and has a row in
// docs/audit.md.
func TestAuditTypes_AreMadeAndDocumented(t *testing.T) {
	made := map[audit.Type]bool{
		audit.ResourceSigning: true,                                                      // see TestAnnounce_WaitsForTheRecord
		audit.Started:         true, audit.CheckpointMade: true, audit.RecordsLost: true, // by the package auditlog
	}
	for _, tc := range auditedFacts() {
		made[tc.want.Type] = true
	}
	var described struct {
		Properties struct {
			Type struct{ Enum []audit.Type }
		}
	}
	if err := json.Unmarshal(file(t, "../../docs/audit.schema.json"), &described); err != nil {
		t.Fatal(err)
	}
	inSchema := slices.Sorted(slices.Values(described.Properties.Type.Enum))
	if facts := slices.Sorted(maps.Keys(made)); !slices.Equal(inSchema, facts) {
		t.Errorf("docs/audit.schema.json has the types %v, want %v", inSchema, facts)
	}
	_, table, _ := strings.Cut(string(file(t, "../../docs/audit.md")), "| type | when |")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []audit.Type
	for row := range strings.Lines(table) {
		types, _, _ := strings.Cut(strings.TrimPrefix(row, "|"), "|")
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(types, -1) {
			documented = append(documented, audit.Type(name[1]))
		}
	}
	if slices.Sort(documented); !slices.Equal(documented, inSchema) {
		t.Errorf("docs/audit.md has the types %v, want %v", documented, inSchema)
	}
}

func file(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name) //nolint:gosec // a file of the project
	if err != nil {
		t.Fatal(err)
	}
	return content
}
