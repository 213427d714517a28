// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"maps"
	"strings"
	"testing"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
)

type object = map[string]any

var keyID = "sha256:" + strings.Repeat("0f", 32)

func revision() object {
	return object{"uid": "u", "resourceVersion": "1", "specSha256": strings.Repeat("0f", 32)}
}

func passed() object {
	return object{
		"kind": "Task", "namespace": "ns", "name": "build", "result": "PASSED", "mode": "enforce", "policy": "trust", "keyId": keyID,
		"policyRevision": revision(), "checkedAt": "2026-07-01T10:00:00Z",
	}
}

func failed() object {
	return object{
		"kind": "Task", "result": "FAILED", "reason": "Unsigned", "mode": "warn", "policy": "trust", "policyRevision": revision(),
		"checkedAt": "2026-07-01T10:00:00Z",
	}
}

func skipped() object {
	return object{"kind": "StepAction", "result": "SKIPPED", "reason": "ContentUnavailable", "checkedAt": "2026-07-01T10:00:00Z"}
}

// ofPolicy returns the outcome of a warn policy that fails, with other values.
func ofPolicy(name string, values object) object {
	return with(object{"policy": name, "policyRevision": revision(), "mode": "warn", "result": "FAILED", "reason": "Unsigned"}, values)
}

func summary() object {
	return object{
		"schemaVersion": 2.0, "result": "PASSED", "counts": object{"passed": 1.0, "failed": 0.0, "skipped": 0.0}, "tekton": object{"status": "True"},
		"agreement": "AGREES", "overrides": []any{"podTemplate.env", "taskRunSpecs[].podTemplate.env"}, "checkedAt": "2026-07-01T10:00:00Z",
	}
}

// with returns a copy of an object with other values. The value nil removes a property.
func with(o object, values object) object {
	o = maps.Clone(o)
	for name, value := range values {
		if o[name] = value; value == nil {
			delete(o, name)
		}
	}
	return o
}

func statement(t *testing.T, dependency []any, summaries ...object) *Provenance {
	t.Helper()
	annotations := func(values object) *structpb.Struct {
		s, err := structpb.NewStruct(values)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	p := &Provenance{Predicate: &slsa.Provenance{BuildDefinition: &slsa.BuildDefinition{}, RunDetails: &slsa.RunDetails{}}}
	p.Predicate.BuildDefinition.ResolvedDependencies = []*intoto.ResourceDescriptor{
		{Uri: "of-chains"}, {Uri: "ours", Annotations: annotations(object{attestation.VerificationAnnotation: dependency})},
	}
	for _, s := range summaries {
		p.Predicate.RunDetails.Byproducts = append(p.Predicate.RunDetails.Byproducts,
			&intoto.ResourceDescriptor{Name: attestation.SummaryName, Annotations: annotations(s)})
	}
	return p
}

func TestValidateVerification_AcceptsValidEntries(t *testing.T) {
	several := []any{
		ofPolicy("a", object{"mode": "enforce", "result": "PASSED", "reason": nil, "keyId": keyID}),
		ofPolicy("b", object{"reason": "SignatureInvalid"}),
	}
	for name, entry := range map[string]object{
		"passed":                 passed(),
		"failed":                 failed(),
		"skipped":                skipped(),
		"no policy":              with(skipped(), object{"reason": "NoPolicy", "mode": "skip"}),
		"our key is not trusted": with(failed(), object{"reason": "KeyUnknown", "keyId": keyID}),
		"our key is revoked":     with(failed(), object{"reason": "KeyRevoked", "keyId": keyID}),
		"content differs":        with(failed(), object{"reason": "DigestMismatch", "mode": nil, "policy": nil, "policyRevision": nil}),
		"namespace differs":      with(failed(), object{"reason": "NamespaceMismatch", "mode": nil, "policy": nil, "policyRevision": nil}),
		"several policies":       with(passed(), object{"policies": several}),
	} {
		if err := ValidateVerification(statement(t, []any{entry, entry}, with(summary(), object{"tekton_verification": []any{entry}}))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidateVerification_RejectsInvalidEntries(t *testing.T) {
	for name, entry := range map[string]object{
		"an unknown property":                with(passed(), object{"extra": 1.0}),
		"an unknown kind":                    with(passed(), object{"kind": "ClusterTask"}),
		"an unknown result":                  with(passed(), object{"result": "OK"}),
		"an unknown reason":                  with(failed(), object{"reason": "Because"}),
		"an unknown mode":                    with(passed(), object{"mode": "strict"}),
		"no kind":                            with(passed(), object{"kind": nil}),
		"no result":                          with(passed(), object{"result": nil}),
		"no time":                            with(passed(), object{"checkedAt": nil}),
		"invalid time":                       with(passed(), object{"checkedAt": "yesterday"}),
		"a key ID without algorithm":         with(passed(), object{"keyId": strings.Repeat("0f", 32)}),
		"a key ID in capitals":               with(passed(), object{"keyId": "sha256:" + strings.Repeat("0F", 32)}),
		"a short key ID":                     with(passed(), object{"keyId": "sha256:0f"}),
		"passed with a reason":               with(passed(), object{"reason": "Unsigned"}),
		"passed without a key":               with(passed(), object{"keyId": nil}),
		"passed without a policy":            with(passed(), object{"policy": nil, "policyRevision": nil}),
		"a policy without its revision":      with(failed(), object{"policyRevision": nil}),
		"a revision without its policy":      with(failed(), object{"policy": nil}),
		"a revision without a hash":          with(passed(), object{"policyRevision": with(revision(), object{"specSha256": nil})}),
		"a revision without a UID":           with(passed(), object{"policyRevision": with(revision(), object{"uid": nil})}),
		"a hash in capitals":                 with(passed(), object{"policyRevision": with(revision(), object{"specSha256": strings.Repeat("0F", 32)})}),
		"passed without a mode":              with(passed(), object{"mode": nil}),
		"failed without a reason":            with(failed(), object{"reason": nil}),
		"failed with a key":                  with(failed(), object{"keyId": keyID}),
		"failed with reason of skipped":      with(failed(), object{"reason": "ContentUnavailable"}),
		"skipped with reason KeyRevoked":     with(skipped(), object{"reason": "KeyRevoked"}),
		"skipped without a reason":           with(skipped(), object{"reason": nil}),
		"skipped with reason Unsigned":       with(skipped(), object{"reason": "Unsigned"}),
		"skipped with reason DigestMismatch": with(skipped(), object{"reason": "DigestMismatch"}),
		"skipped, NamespaceMismatch":         with(skipped(), object{"reason": "NamespaceMismatch"}),
		"an empty name":                      with(passed(), object{"name": ""}),
		"a long name":                        with(passed(), object{"name": strings.Repeat("x", 1025)}),
		"one policy of several":              with(passed(), object{"policies": []any{ofPolicy("a", nil)}}),
		"a policy without a name":            with(passed(), object{"policies": []any{ofPolicy("a", object{"policy": nil, "policyRevision": nil}), ofPolicy("b", nil)}}),
		"policy without a revision":          with(passed(), object{"policies": []any{ofPolicy("a", object{"policyRevision": nil}), ofPolicy("b", nil)}}),
		"policy passed without a key":        with(passed(), object{"policies": []any{ofPolicy("a", object{"result": "PASSED", "reason": nil}), ofPolicy("b", nil)}}),
	} {
		if ValidateVerification(statement(t, []any{entry}, summary())) == nil {
			t.Errorf("%s: a dependency with this entry is accepted", name)
		}
		if ValidateVerification(statement(t, []any{passed()}, with(summary(), object{"tekton_verification": []any{entry}}))) == nil {
			t.Errorf("%s: a summary with this entry is accepted", name)
		}
	}
	counts := func(passed, failed, skipped float64) object {
		return object{"counts": object{"passed": passed, "failed": failed, "skipped": skipped}}
	}
	for name, s := range map[string]object{
		"an unknown property":           with(summary(), object{"extra": 1.0}),
		"an unknown agreement":          with(summary(), object{"agreement": "PERHAPS"}),
		"an unknown status":             with(summary(), object{"tekton": object{"status": "true"}}),
		"no counts":                     with(summary(), object{"counts": nil}),
		"fractional count":              with(summary(), counts(0.5, 0, 0)),
		"a negative count":              with(summary(), counts(1, 0, -1)),
		"no agreement":                  with(summary(), object{"agreement": nil}),
		"passed with a failure":         with(summary(), counts(1, 1, 0)),
		"passed with one skipped":       with(summary(), counts(1, 0, 1)),
		"passed with nothing":           with(summary(), counts(0, 0, 0)),
		"failed without failure":        with(summary(), object{"result": "FAILED"}),
		"skipped with a failure":        with(with(summary(), object{"result": "SKIPPED"}), counts(1, 1, 1)),
		"no version":                    with(summary(), object{"schemaVersion": nil}),
		"another version":               with(summary(), object{"schemaVersion": 1.0}),
		"no overrides":                  with(summary(), object{"overrides": nil}),
		"a value among the overrides":   with(summary(), object{"overrides": []any{"podTemplate.env=secret"}}),
		"an override twice":             with(summary(), object{"overrides": []any{"params", "params"}}),
		"empty list of other resources": with(summary(), object{"tekton_verification": []any{}}),
	} {
		if ValidateVerification(statement(t, []any{passed()}, s)) == nil {
			t.Errorf("%s: this summary is accepted", name)
		}
	}
	if ValidateVerification(statement(t, []any{}, summary())) == nil {
		t.Error("an empty annotation is accepted")
	}
	if ValidateVerification(statement(t, []any{passed()})) == nil {
		t.Error("an attestation without a summary is accepted")
	}
	if ValidateVerification(statement(t, []any{passed()}, summary(), summary())) == nil {
		t.Error("an attestation with two summaries is accepted")
	}
}
