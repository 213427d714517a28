// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/base64"
	"errors"
	"testing"
)

const (
	evaluatedChecksum = "checksum of the content"
	evaluatedSource   = "git+https://git.example/catalog"
	ownKeyID          = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// verdictPerSignature is a verifier with one verdict for each signature. It
// returns an error for every other input.
type verdictPerSignature map[string]Verdict

var errPoliciesUnreadable = errors.New("policies cannot be listed")

func (v verdictPerSignature) Verify(_ context.Context, namespace string, input Input) (Verdict, error) {
	verdict, known := v[input.Signature]
	if !known || namespace != "ns" || string(input.Checksum) != evaluatedChecksum || input.Source != evaluatedSource || input.NoMatch != Warn {
		return Verdict{}, errPoliciesUnreadable
	}
	return verdict, nil
}

// ownSignature is a key ring that made one signature.
type ownSignature string

func (s ownSignature) Signer(signature, checksum []byte) (string, bool) {
	return ownKeyID, string(signature) == string(s) && string(checksum) == evaluatedChecksum
}

func (ownSignature) Revoked(string) bool { return false }

func verdictOf(result Result, reason Reason) Verdict {
	o := Outcome{Policy: "policy", Mode: Enforce, Result: result, Reason: reason}
	if result == Passed {
		o.KeyID = ownKeyID
	}
	return Verdict{Outcome: o, Policies: []Outcome{o}}
}

func withCandidates(signatures ...string) Resource {
	return Resource{Checksum: []byte(evaluatedChecksum), Signatures: signatures, Source: evaluatedSource, NoMatch: Warn}
}

// Tekton verifies the signature of the content itself. The other candidates
// count only if they verify.
func TestEvaluate_FirstCandidateThatDoesNotFailDecides(t *testing.T) {
	passed, noPolicy := verdictOf(Passed, ""), verdictOf(Skipped, NoPolicy)
	unsigned, invalid := verdictOf(Failed, Unsigned), verdictOf(Failed, SignatureInvalid)
	verifier := verdictPerSignature{"": unsigned, "good": passed, "forged": invalid, "another": invalid}
	for name, tc := range map[string]struct {
		verifier   verdictPerSignature
		signatures []string
		want       Result
		reason     Reason
	}{
		"own signature is valid":                       {verifier, []string{"good"}, Passed, ""},
		"own signature is invalid":                     {verifier, []string{"forged"}, Failed, SignatureInvalid},
		"no signature":                                 {verifier, []string{""}, Failed, Unsigned},
		"no own signature, another is valid":           {verifier, []string{"", "good"}, Passed, ""},
		"no own signature, another is forged":          {verifier, []string{"", "forged"}, Failed, Unsigned},
		"own signature is valid, another is forged":    {verifier, []string{"good", "forged"}, Passed, ""},
		"own signature is invalid, another is valid":   {verifier, []string{"forged", "good"}, Passed, ""},
		"all signatures are invalid":                   {verifier, []string{"forged", "another", ""}, Failed, SignatureInvalid},
		"the last of many candidates is valid":         {verifier, []string{"", "forged", "another", "good"}, Passed, ""},
		"no policy matches":                            {verdictPerSignature{"": noPolicy, "good": noPolicy}, []string{"", "good"}, Skipped, NoPolicy},
		"policies cannot be read":                      {verdictPerSignature{}, []string{"good"}, Skipped, PolicyInvalid},
		"policies cannot be read for the second":       {verdictPerSignature{"": unsigned}, []string{"", "good"}, Skipped, PolicyInvalid},
		"a key cannot be read, and another is enough":  {verdictPerSignature{"": verdictOf(Failed, KeyUnavailable), "good": passed}, []string{"", "good"}, Passed, ""},
		"a key cannot be read, and no other is enough": {verdictPerSignature{"good": verdictOf(Failed, KeyUnavailable)}, []string{"good"}, Failed, KeyUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			got := Evaluate(t.Context(), tc.verifier, ownSignature(""), "ns", withCandidates(tc.signatures...))
			if got.Result != tc.want || got.Reason != tc.reason {
				t.Errorf("got %s %q, want %s %q", got.Result, got.Reason, tc.want, tc.reason)
			}
		})
	}
}

// Content that is not known never passes. It fails only if its checksum is
// another than the run recorded.
func TestEvaluate_UnavailableContentNeverPasses(t *testing.T) {
	for reason, want := range map[Reason]Result{
		ContentUnavailable:   Skipped,
		SignatureUnavailable: Skipped,
		Inline:               Skipped,
		DigestMismatch:       Failed,
	} {
		r := withCandidates("good")
		r.Unavailable = Unavailable{Reason: reason, Message: "why"}
		got := Evaluate(t.Context(), verdictPerSignature{"good": verdictOf(Passed, "")}, ownSignature(""), "ns", r)
		if got.Result != want || got.Reason != reason || got.Message != "why" || got.KeyID != "" || got.Policies != nil {
			t.Errorf("%s: got %+v, want %s", reason, got, want)
		}
	}
}

// A signature of an own key that no policy trusts is another mistake than a
// signature over another content.
func TestEvaluate_NamesOwnKeyThatNoPolicyTrusts(t *testing.T) {
	encoded := func(signature string) string { return base64.StdEncoding.EncodeToString([]byte(signature)) }
	invalid := verdictOf(Failed, SignatureInvalid)
	verifier := verdictPerSignature{
		"": verdictOf(Failed, Unsigned), encoded("ours"): invalid, encoded("theirs"): invalid, "no base64": invalid,
		encoded("trusted"): verdictOf(Passed, ""),
	}
	for name, tc := range map[string]struct {
		signatures []string
		want       Reason
		keyID      string
	}{
		"own key":                             {[]string{encoded("ours")}, KeyUnknown, ownKeyID},
		"foreign key":                         {[]string{encoded("theirs")}, SignatureInvalid, ""},
		"no base64":                           {[]string{"no base64"}, SignatureInvalid, ""},
		"own key on another candidate only":   {[]string{"", encoded("ours")}, Unsigned, ""},
		"own key, another is trusted":         {[]string{encoded("ours"), encoded("trusted")}, "", ownKeyID},
		"foreign key, own key on another":     {[]string{encoded("theirs"), encoded("ours")}, SignatureInvalid, ""},
		"no own signature, garbage elsewhere": {[]string{"", "no base64"}, Unsigned, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := Evaluate(t.Context(), verifier, ownSignature("ours"), "ns", withCandidates(tc.signatures...))
			if got.Reason != tc.want || got.KeyID != tc.keyID {
				t.Errorf("got %q by %q, want %q by %q", got.Reason, got.KeyID, tc.want, tc.keyID)
			}
		})
	}
}
