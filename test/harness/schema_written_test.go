// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"strings"
	"testing"
	"time"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	verdicts "github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// written returns an attestation that contains report, as the controller writes it.
func written(t *testing.T, report attestation.Report) *Provenance {
	t.Helper()
	predicate := &structpb.Struct{}
	data, err := protojson.Marshal(&slsa.Provenance{BuildDefinition: &slsa.BuildDefinition{}, RunDetails: &slsa.RunDetails{}})
	if err == nil {
		err = protojson.Unmarshal(data, predicate)
	}
	if err != nil {
		t.Fatal(err)
	}
	enriched, err := attestation.Annotate(&intoto.Statement{Predicate: predicate}, report)
	if err != nil {
		t.Fatal(err)
	}
	if data, err = protojson.Marshal(enriched); err != nil {
		t.Fatal(err)
	}
	p, err := ParseProvenance(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestValidateVerification_AcceptsControllerOutput(t *testing.T) {
	revision := verdicts.Revision{UID: "u", ResourceVersion: "1", SpecSHA256: strings.Repeat("0f", 32)}
	verdict := func(o verdicts.Outcome, others ...verdicts.Outcome) verdicts.Verdict {
		return verdicts.Verdict{Outcome: o, Policies: append([]verdicts.Outcome{o}, others...)}
	}
	fails := func(reason verdicts.Reason, mode verdicts.Mode) verdicts.Outcome {
		return verdicts.Outcome{Policy: "p", Revision: revision, Mode: mode, Result: verdicts.Failed, Reason: reason, Message: "why"}
	}
	passes := verdicts.Outcome{Policy: "p", Revision: revision, Mode: verdicts.Enforce, Result: verdicts.Passed, KeyID: keyID}
	ours := fails(verdicts.KeyUnknown, verdicts.Enforce)
	ours.KeyID = keyID
	revoked := fails(verdicts.KeyRevoked, verdicts.Enforce)
	revoked.KeyID = keyID
	skips := func(reason verdicts.Reason, mode verdicts.Mode) verdicts.Verdict {
		return verdicts.Verdict{Outcome: verdicts.Outcome{Mode: mode, Result: verdicts.Skipped, Reason: reason}}
	}
	for name, v := range map[string]verdicts.Verdict{
		"passed":               verdict(passes),
		"passed by two":        verdict(passes, passes),
		"failed one of two":    verdict(fails(verdicts.Unsigned, verdicts.Warn), passes),
		"SignatureInvalid":     verdict(fails(verdicts.SignatureInvalid, verdicts.Enforce)),
		"KeyUnknown":           verdict(ours),
		"KeyRevoked":           verdict(revoked, revoked),
		"KeyUnavailable":       verdict(fails(verdicts.KeyUnavailable, verdicts.Warn)),
		"KeyNotAllowed":        verdict(fails(verdicts.KeyNotAllowed, verdicts.Enforce)),
		"PolicyInvalid":        verdict(fails(verdicts.PolicyInvalid, verdicts.Enforce)),
		"unreadable policies":  skips(verdicts.PolicyInvalid, ""),
		"DigestMismatch":       {Outcome: verdicts.Outcome{Result: verdicts.Failed, Reason: verdicts.DigestMismatch}},
		"NamespaceMismatch":    {Outcome: verdicts.Outcome{Result: verdicts.Failed, Reason: verdicts.NamespaceMismatch}},
		"NoPolicy":             skips(verdicts.NoPolicy, verdicts.Skip),
		"NoPolicy, warn":       skips(verdicts.NoPolicy, verdicts.Warn),
		"NoPolicy, enforce":    skips(verdicts.NoPolicy, verdicts.Enforce),
		"ContentUnavailable":   skips(verdicts.ContentUnavailable, ""),
		"SignatureUnavailable": skips(verdicts.SignatureUnavailable, ""),
		"Inline":               skips(verdicts.Inline, ""),
	} {
		for _, source := range []string{"", "git+https://git.example"} {
			for _, kind := range resource.Kinds {
				for _, agreement := range []attestation.Agreement{attestation.Agrees, attestation.Differs, attestation.NotComparable} {
					p := written(t, attestation.Report{
						Records:   []attestation.Record{{Dependency: dependencies.Dependency{Kind: kind, Source: v1.RefSource{URI: source}}, Verdict: v}},
						CheckedAt: time.Unix(0, 1), TektonStatus: "Absent", Agreement: agreement,
						Overrides: []string{"params", "taskRunTemplate.podTemplate.env"},
					})
					if err := ValidateVerification(p); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
	}
}

func TestValidateVerification_AcceptsDecisionsOfTheGate(t *testing.T) {
	revision := verdicts.Revision{UID: "u", ResourceVersion: "1", SpecSHA256: strings.Repeat("0f", 32)}
	for _, gate := range []attestation.Gate{
		{Decision: attestation.GateReleased, At: time.Unix(1, 0), Policies: []attestation.GatePolicy{{Name: "p", Revision: revision}}},
		{Decision: attestation.GateRefused, At: time.Unix(1, 0)}, {Decision: attestation.GateOpened, At: time.Unix(1, 0)},
		{Decision: attestation.GateNotHeld}, {Decision: attestation.GateUnknown},
	} {
		p := written(t, attestation.Report{TektonStatus: "True", Agreement: attestation.NotComparable, Gate: gate})
		if err := ValidateVerification(p); err != nil {
			t.Errorf("gate %s: %v", gate.Decision, err)
		}
		if summary, err := p.Summary(); err != nil || summary.Gate.Decision != string(gate.Decision) {
			t.Errorf("gate %s: the summary is %+v, error %v", gate.Decision, summary, err)
		}
	}
	nothing := attestation.Report{TektonStatus: "True", TektonMessage: "m", Agreement: attestation.NotComparable}
	if err := ValidateVerification(written(t, nothing)); err != nil {
		t.Error(err)
	}
}
