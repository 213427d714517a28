// SPDX-License-Identifier: Apache-2.0

package gate_test

import (
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/gate"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

var strict = config.Default().Gate

// record returns the record of Task ns/build with the outcomes of policies, of which the
// first one decides.
func record(outcomes ...policy.Outcome) attestation.Record {
	return attestation.Record{
		Dependency: dependencies.Dependency{Kind: resource.Task, Namespace: "ns", Name: "build"},
		Verdict:    policy.Verdict{Outcome: outcomes[0], Policies: outcomes},
	}
}

// notRead returns the record of a resource whose content or signature is not known.
func notRead(reason policy.Reason, temporary bool) attestation.Record {
	r := record(policy.Outcome{Result: policy.Skipped, Reason: reason})
	r.Policies = nil
	r.Unavailable = policy.Unavailable{Reason: reason, Message: "why", Temporary: temporary}
	return r
}

func outcome(result policy.Result, reason policy.Reason, mode policy.Mode) policy.Outcome {
	return policy.Outcome{Policy: "p", Result: result, Reason: reason, Mode: mode, Message: "Secret hidden/key"}
}

var (
	passed   = outcome(policy.Passed, "", policy.Enforce)
	unsigned = outcome(policy.Failed, policy.Unsigned, policy.Enforce)
	noKey    = outcome(policy.Failed, policy.KeyUnavailable, policy.Enforce)
	warned   = outcome(policy.Failed, policy.Unsigned, policy.Warn)
)

func TestDecide(t *testing.T) {
	allow := config.Gate{Unmatched: config.GateAllow, Inline: config.GateAllow, Overrides: config.GateAllow}
	refuseOverrides := strict
	refuseOverrides.Overrides = config.GateRefuse
	noPolicy := record(policy.Outcome{Result: policy.Skipped, Reason: policy.NoPolicy, Mode: policy.Skip})
	inline := notRead(policy.Inline, false)
	for name, tc := range map[string]struct {
		records   []attestation.Record
		overrides []string
		settings  config.Gate
		want      gate.Action
		text      string
	}{
		"passed":                        {[]attestation.Record{record(passed)}, nil, strict, gate.Release, ""},
		"nothing is known":              {nil, nil, allow, gate.Refuse, "no Task"},
		"unsigned":                      {[]attestation.Record{record(passed), record(unsigned, passed)}, nil, allow, gate.Refuse, "Task ns/build: Unsigned by policy p (mode enforce)"},
		"unsigned, policy warns":        {[]attestation.Record{record(warned)}, nil, strict, gate.Release, "mode warn"},
		"key cannot be read":            {[]attestation.Record{record(noKey)}, nil, allow, gate.Wait, "KeyUnavailable"},
		"one key unread, one fails":     {[]attestation.Record{record(noKey, unsigned)}, nil, allow, gate.Refuse, "Unsigned"},
		"key of warn policy unread":     {[]attestation.Record{record(outcome(policy.Failed, policy.KeyUnavailable, policy.Warn), passed)}, nil, strict, gate.Release, "KeyUnavailable"},
		"signature is no base64":        {[]attestation.Record{record(outcome(policy.Failed, policy.SignatureInvalid, policy.Enforce), warned)}, nil, allow, gate.Refuse, "SignatureInvalid"},
		"no policy matches":             {[]attestation.Record{noPolicy}, nil, strict, gate.Refuse, "trustedresources.gate.unmatched"},
		"no policy matches, allowed":    {[]attestation.Record{noPolicy}, nil, allow, gate.Release, ""},
		"skipped by a policy":           {[]attestation.Record{record(policy.Outcome{Result: policy.Skipped, Reason: policy.PolicySkip, Mode: policy.Skip})}, nil, strict, gate.Release, ""},
		"inline":                        {[]attestation.Record{inline}, nil, strict, gate.Refuse, "trustedresources.gate.inline"},
		"inline, allowed":               {[]attestation.Record{inline}, nil, allow, gate.Release, ""},
		"inline allowed, StepAction no": {[]attestation.Record{inline, record(unsigned)}, nil, allow, gate.Refuse, "Unsigned"},
		"content gone":                  {[]attestation.Record{notRead(policy.ContentUnavailable, false)}, nil, allow, gate.Refuse, "start the run again"},
		"content not read now":          {[]attestation.Record{notRead(policy.ContentUnavailable, true)}, nil, allow, gate.Wait, "why"},
		"registry away":                 {[]attestation.Record{notRead(policy.SignatureUnavailable, true)}, nil, allow, gate.Wait, "why"},
		"policies not read":             {[]attestation.Record{notRead(policy.PolicyInvalid, false)}, nil, allow, gate.Wait, "PolicyInvalid"},
		"policy invalid":                {[]attestation.Record{record(outcome(policy.Failed, policy.PolicyInvalid, policy.Enforce))}, nil, allow, gate.Refuse, "correct the policy"},
		"refusal before waiting":        {[]attestation.Record{notRead(policy.ContentUnavailable, true), record(unsigned)}, nil, allow, gate.Refuse, "Unsigned"},
		"overrides":                     {[]attestation.Record{record(passed)}, []string{"params", "podTemplate.env"}, strict, gate.Release, ""},
		"overrides, refused":            {[]attestation.Record{record(passed)}, []string{"params", "podTemplate.env"}, refuseOverrides, gate.Refuse, "podTemplate.env"},
		"harmless overrides":            {[]attestation.Record{record(passed)}, []string{"params", "podTemplate.nodeSelector"}, refuseOverrides, gate.Release, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := gate.Decide(tc.records, tc.overrides, tc.settings)
			text := got.Message + strings.Join(got.Warnings, ";")
			if got.Action != tc.want || !strings.Contains(text, tc.text) || (tc.text == "" && tc.want == gate.Release && text != "") {
				t.Errorf("got %s %q, want %s with %q", got.Action, text, tc.want, tc.text)
			}
			if strings.Contains(text, "hidden") {
				t.Errorf("%q names a Secret", text)
			}
		})
	}
}

// Only what is known to be good releases: no settings let a resource through for which
// neither a policy passed, nor a setting or a policy in mode warn speaks.
func TestDecide_ReleasesNothingUnknown(t *testing.T) {
	allow := config.Gate{Unmatched: config.GateAllow, Inline: config.GateAllow, Overrides: config.GateAllow}
	for _, result := range []policy.Result{policy.Failed, policy.Skipped, "", "new"} {
		for _, mode := range []policy.Mode{policy.Enforce, policy.Skip, "", "new"} {
			for _, reason := range []policy.Reason{policy.Unsigned, policy.KeyUnavailable, policy.ContentUnavailable, policy.PolicyInvalid, "", "New"} {
				if got := gate.Decide([]attestation.Record{record(outcome(result, reason, mode))}, nil, allow); got.Action == gate.Release {
					t.Errorf("result %q, reason %q, mode %q was released", result, reason, mode)
				}
			}
		}
	}
}
