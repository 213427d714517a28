// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature/kms/fake"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
)

// summaries describes each outcome as "policy result reason".
func summaries(outcomes []Outcome) []string {
	all := make([]string, 0, len(outcomes))
	for _, o := range outcomes {
		all = append(all, strings.TrimSpace(strings.Join([]string{o.Policy, string(o.Result), string(o.Reason)}, " ")))
	}
	return all
}

func TestVerify_ReturnsReason(t *testing.T) {
	ours, theirs := newKey(), newKey()
	good := ours.input()
	with := func(change func(*Input)) Input {
		s := good
		change(&s)
		return s
	}
	silent, silentRef := newServer("reasons", ours)
	silent.fail(errors.New("sealed"))
	sha512 := inline(ours)
	sha512.HashAlgorithm = "SHA512"
	unknownHash := inline(ours)
	unknownHash.HashAlgorithm = "md5"
	policies := func(p ...*v1alpha1.VerificationPolicy) []*v1alpha1.VerificationPolicy { return p }

	for name, tc := range map[string]struct {
		policies []*v1alpha1.VerificationPolicy
		input    Input
		want     Result
		reason   Reason
		message  string
	}{
		"good":                         {policies(enforce("p", inline(ours))), good, Passed, "", ""},
		"good, second authority":       {policies(enforce("p", inline(theirs), inline(ours))), good, Passed, "", ""},
		"good, key in a Secret":        {policies(enforce("p", inSecret("ours"))), good, Passed, "", ""},
		"good, hash of the policy":     {policies(enforce("p", sha512)), with(func(s *Input) { s.Signature = ours.sign(message, crypto.SHA512) }), Passed, "", ""},
		"another hash":                 {policies(enforce("p", sha512)), good, Failed, SignatureInvalid, "no authority verifies"},
		"no policy":                    {nil, good, Skipped, NoPolicy, ""},
		"no policy for the source":     {policies(matching(enforce("p", inline(ours)), "https://other/.*")), good, Skipped, NoPolicy, ""},
		"unsigned":                     {policies(enforce("p", inline(ours))), with(func(s *Input) { s.Signature = "" }), Failed, Unsigned, ""},
		"not base64":                   {policies(enforce("p", inline(ours))), with(func(s *Input) { s.Signature = "!" }), Failed, SignatureInvalid, "not base64"},
		"content changed":              {policies(enforce("p", inline(ours))), with(func(s *Input) { s.Checksum = slices.Repeat([]byte{8}, 32) }), Failed, SignatureInvalid, "no authority verifies"},
		"another key":                  {policies(enforce("p", inline(theirs))), good, Failed, SignatureInvalid, "no authority verifies"},
		"Secret missing":               {policies(enforce("p", inSecret("missing"))), good, Failed, KeyUnavailable, `authority "authority-0": the key cannot be read: Secret ns/missing: not found`},
		"Secret missing, good key too": {policies(enforce("p", inline(ours), inSecret("missing"))), good, Failed, KeyUnavailable, `"authority-1"`},
		"Secret with two entries":      {policies(enforce("p", inSecret("two"))), good, Failed, PolicyInvalid, "Secret ns/two: secret contains multiple data: found 2 entries, expected one"},
		"Secret without entry":         {policies(enforce("p", inSecret("none"))), good, Failed, PolicyInvalid, "Secret ns/none: secret data is empty"},
		"Secret with an empty entry":   {policies(enforce("p", inSecret("empty"))), good, Failed, PolicyInvalid, "Secret ns/empty: secret data is empty"},
		"KMS unknown":                  {policies(enforce("p", inKMS("nosuchkms://key"))), good, Failed, KeyUnavailable, "nosuchkms://key"},
		"KMS does not answer":          {policies(enforce("p", inKMS(silentRef))), good, Failed, KeyUnavailable, "sealed"},
		"KMS down, good key too":       {policies(enforce("p", inKMS(silentRef), inline(ours))), good, Passed, "", ""},
		"KMS down, another key too":    {policies(enforce("p", inKMS(silentRef), inline(theirs))), good, Failed, KeyUnavailable, "sealed"},
		"KMS with another key":         {policies(enforce("p", inKMS(fake.ReferenceScheme+"key"))), good, Failed, SignatureInvalid, "no authority verifies"},
		"not a key":                    {policies(enforce("p", &v1alpha1.KeyRef{Data: "garbage"})), good, Failed, PolicyInvalid, "decode"},
		"no key":                       {policies(enforce("p", &v1alpha1.KeyRef{})), good, Failed, PolicyInvalid, `"authority-0"`},
		"no authority":                 {policies(enforce("p")), good, Failed, PolicyInvalid, "no public keys"},
		"unknown hash":                 {policies(enforce("p", unknownHash)), good, Failed, PolicyInvalid, `"md5"`},
		"bad pattern":                  {policies(matching(warn("p", inline(ours)), "(")), good, Failed, PolicyInvalid, "missing closing )"},
		"bad pattern after a match":    {policies(matching(enforce("p", inline(ours)), ".*", "(")), good, Passed, "", ""},
		"bad pattern in other policy":  {policies(enforce("a", inline(ours)), matching(warn("p", inline(ours)), "(")), good, Failed, PolicyInvalid, "missing closing )"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, tc.policies...)
			c.secrets.putKey("ours", ours)
			c.secrets.put("two", map[string][]byte{"a": []byte(ours.pem()), "b": []byte(ours.pem())})
			c.secrets.put("none", nil)
			c.secrets.put("empty", map[string][]byte{"a": nil})
			c.expect(tc.input, tc.want, tc.reason)
			verdict := c.verify(tc.input)
			if !strings.Contains(verdict.Message, tc.message) || (tc.message == "") != (verdict.Message == "") {
				t.Errorf("the message is %q, want %q", verdict.Message, tc.message)
			}
			if wantID := ours.id(); (verdict.KeyID == wantID) != (tc.want == Passed) {
				t.Errorf("the key is %q", verdict.KeyID)
			}
		})
	}
}

// A policy passes when one of its keys verifies the signature. A verdict passes when
// all matching policies pass, and reports the outcome of each.
func TestVerify_ReportsEveryMatchingPolicy(t *testing.T) {
	ours, theirs := newKey(), newKey()
	type policies []*v1alpha1.VerificationPolicy
	const pass, warning, failure = trustedresources.VerificationPass, trustedresources.VerificationWarn, trustedresources.VerificationError
	for name, tc := range map[string]struct {
		policies policies
		deciding string
		tekton   trustedresources.VerificationResultType
		want     []string
	}{
		"all pass": {policies{enforce("b", inline(ours)), enforce("a", inline(theirs), inline(ours)), warn("c", inline(ours))},
			"a", pass, []string{"a PASSED", "b PASSED", "c PASSED"}},
		"one of two fails": {policies{enforce("a", inline(ours)), enforce("b", inline(theirs))},
			"b", failure, []string{"a PASSED", "b FAILED SignatureInvalid"}},
		"several fail, the first by name decides": {policies{enforce("c", inSecret("missing")), enforce("b", inline(theirs)), enforce("a", inline(ours))},
			"b", failure, []string{"a PASSED", "b FAILED SignatureInvalid", "c FAILED KeyUnavailable"}},
		"enforce decides before warn": {policies{warn("a", inline(theirs)), enforce("z", inline(theirs))},
			"z", failure, []string{"z FAILED SignatureInvalid", "a FAILED SignatureInvalid"}},
		"warn decides where enforce passes": {policies{warn("a", inline(theirs)), enforce("z", inline(ours))},
			"a", warning, []string{"z PASSED", "a FAILED SignatureInvalid"}},
		"warn that passes does not decide": {policies{warn("a", inline(ours)), enforce("z", inline(ours))},
			"z", pass, []string{"z PASSED", "a PASSED"}},
		"a policy that does not match is not reported": {policies{enforce("a", inline(ours)), matching(enforce("b", inline(theirs)), "other")},
			"a", pass, []string{"a PASSED"}},
		"an unknown mode enforces": {policies{withMode(enforce("a", inline(theirs)), "audit"), withMode(enforce("b", inline(theirs)), "")},
			"a", failure, []string{"a FAILED SignatureInvalid", "b FAILED SignatureInvalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := newCluster(t, tc.policies...).verify(ours.input())
			if got := summaries(verdict.Policies); !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if verdict.Policy != tc.deciding || verdict.Tekton() != tc.tekton {
				t.Errorf("%q decides, Tekton's result %s; want %q, %s",
					verdict.Policy, resultNames[verdict.Tekton()], tc.deciding, resultNames[tc.tekton])
			}
		})
	}
}

func withMode(p *v1alpha1.VerificationPolicy, mode v1alpha1.ModeType) *v1alpha1.VerificationPolicy {
	p.Spec.Mode = mode
	return p
}

// Tekton fails a signature that is not base64 even when the policy only warns.
func TestVerify_EnforcesBase64InWarnMode(t *testing.T) {
	ours := newKey()
	s := ours.input()
	c := newCluster(t, warn("p", inline(newKey())))
	if got := c.verify(s).Tekton(); got != trustedresources.VerificationWarn {
		t.Errorf("a wrong signature: got %s", resultNames[got])
	}
	s.Signature = "!"
	if got := c.verify(s).Tekton(); got != trustedresources.VerificationError {
		t.Errorf("a signature that is not base64: got %s", resultNames[got])
	}
}

func TestVerify_UsesNoMatchModeWithoutPolicy(t *testing.T) {
	s := newKey().input()
	for mode, want := range map[Mode]trustedresources.VerificationResultType{
		Skip: trustedresources.VerificationSkip, Warn: trustedresources.VerificationWarn, Enforce: trustedresources.VerificationError,
	} {
		s.NoMatch = mode
		if got := newCluster(t).verify(s); got.Tekton() != want || got.Result != Skipped {
			t.Errorf("%s: got %+v", mode, got)
		}
	}
}
