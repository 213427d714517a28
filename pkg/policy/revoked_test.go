// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/base64"
	"slices"
	"testing"
)

// revokedKey is a key ring whose only key made one signature and is revoked.
type revokedKey struct{ ownSignature }

func (revokedKey) Revoked(keyID string) bool { return keyID == ownKeyID }

func TestEvaluate_FailsSignaturesOfRevokedKeys(t *testing.T) {
	byRevoked := base64.StdEncoding.EncodeToString([]byte("stolen"))
	outcome := func(policy string, mode Mode, result Result, reason Reason, keyID string) Outcome {
		return Outcome{Policy: policy, Mode: mode, Result: result, Reason: reason, KeyID: keyID}
	}
	const otherID = "sha256:other"
	passed := func(keyID string) Verdict { return decide([]Outcome{outcome("p", Enforce, Passed, "", keyID)}) }
	unsigned, invalid := verdictOf(Failed, Unsigned), verdictOf(Failed, SignatureInvalid)
	for name, tc := range map[string]struct {
		verdicts   verdictPerSignature
		signatures []string
		want       Outcome
	}{
		"trusted by a policy": {
			verdictPerSignature{byRevoked: passed(ownKeyID)}, []string{byRevoked}, outcome("p", Enforce, Failed, KeyRevoked, ownKeyID),
		},
		"trusted by one policy that warns, not by one to enforce": {
			verdictPerSignature{byRevoked: decide([]Outcome{outcome("a", Enforce, Failed, SignatureInvalid, ""), outcome("b", Warn, Passed, "", ownKeyID)})},
			[]string{byRevoked}, outcome("a", Enforce, Failed, KeyRevoked, ownKeyID),
		},
		"trusted by no policy":                    {verdictPerSignature{byRevoked: invalid}, []string{byRevoked}, outcome("policy", Enforce, Failed, KeyRevoked, ownKeyID)},
		"another signature is good":               {verdictPerSignature{byRevoked: passed(ownKeyID), "good": passed(otherID)}, []string{byRevoked, "good"}, outcome("p", Enforce, Passed, "", otherID)},
		"on another candidate, content unsigned":  {verdictPerSignature{"": unsigned, byRevoked: passed(ownKeyID)}, []string{"", byRevoked}, outcome("p", Enforce, Failed, KeyRevoked, ownKeyID)},
		"on another candidate, content is forged": {verdictPerSignature{"forged": invalid, byRevoked: passed(ownKeyID)}, []string{"forged", byRevoked}, outcome("policy", Enforce, Failed, SignatureInvalid, "")},
		"no policy matches":                       {verdictPerSignature{byRevoked: verdictOf(Skipped, NoPolicy)}, []string{byRevoked}, outcome("policy", Enforce, Skipped, NoPolicy, "")},
		"another key":                             {verdictPerSignature{"good": passed(otherID)}, []string{"good"}, outcome("p", Enforce, Passed, "", otherID)},
	} {
		t.Run(name, func(t *testing.T) {
			before := slices.Clone(tc.verdicts[tc.signatures[0]].Policies)
			got := Evaluate(t.Context(), tc.verdicts, revokedKey{"stolen"}, "ns", withCandidates(tc.signatures...)).Outcome
			got.Message = ""
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			if !slices.Equal(tc.verdicts[tc.signatures[0]].Policies, before) {
				t.Error("the verdict of the verifier was changed, and it may be cached")
			}
		})
	}
}
