// Package policy says whether a resource is what the VerificationPolicies of a
// namespace trust. Its verdicts are those of Tekton's own verifier
// (pkg/trustedresources in tektoncd/pipeline), with the outcome of every policy
// that matches where Tekton reports the first failure only.
package policy

import (
	"github.com/tektoncd/pipeline/pkg/trustedresources"
)

// Result is what a verification came to.
type Result string

// The results.
const (
	Passed  Result = "PASSED"
	Failed  Result = "FAILED"
	Skipped Result = "SKIPPED"
)

// Reason says why a result is not Passed. It is empty when it is.
type Reason string

// The reasons.
const (
	// NoPolicy: no policy of the namespace matches the source.
	NoPolicy Reason = "NoPolicy"
	// Unsigned: there is no signature at all.
	Unsigned Reason = "Unsigned"
	// SignatureInvalid: the signature is no base64, or no authority of the
	// policy verifies it over this content. Content that changed after it was
	// signed and a signer that nobody trusts look the same.
	SignatureInvalid Reason = "SignatureInvalid"
	// KeyUnknown: a key of our own key ring made the signature, and the policy
	// does not trust it.
	KeyUnknown Reason = "KeyUnknown"
	// KeyUnavailable: a key of the policy cannot be read, because its Secret is
	// missing or its KMS does not answer.
	KeyUnavailable Reason = "KeyUnavailable"
	// SignatureUnavailable: the signature may be in a registry that does not
	// answer.
	SignatureUnavailable Reason = "SignatureUnavailable"
	// PolicyInvalid: the policy has a pattern that is no regular expression, or
	// an authority that no key can be made of.
	PolicyInvalid Reason = "PolicyInvalid"
	// DigestMismatch: the content has another checksum than the run recorded.
	DigestMismatch Reason = "DigestMismatch"
	// ContentUnavailable: what ran cannot be established.
	ContentUnavailable Reason = "ContentUnavailable"
	// Inline: the run carries the spec itself; there is no resource to verify.
	Inline Reason = "Inline"
)

// Mode is what Tekton does about a resource that is not Passed.
type Mode string

// The modes: refuse the run, run it with a warning, run it.
const (
	Enforce Mode = "enforce"
	Warn    Mode = "warn"
	Skip    Mode = "skip"
)

// Outcome is the outcome of one policy.
type Outcome struct {
	// Policy is the policy's name; empty when none matches.
	Policy string
	Mode   Mode
	Result Result
	Reason Reason
	// KeyID is the key that the signature verifies with, as keyring.KeyID says.
	KeyID string
	// Message says more to an operator. It may name Secrets and key servers.
	Message string
}

// Verdict is the outcome that decides: the first enforce policy that fails, or
// else the first warn policy that does, or else the first that passes.
type Verdict struct {
	Outcome
	// Policies has the outcome of every policy that matches: those to enforce
	// before those to warn, and by name.
	Policies []Outcome
}

// Tekton is the result that Tekton's VerifyResource comes to.
func (v Verdict) Tekton() trustedresources.VerificationResultType {
	switch {
	case v.Result == Passed:
		return trustedresources.VerificationPass
	case v.Mode == Warn:
		return trustedresources.VerificationWarn
	case v.Mode == Skip:
		return trustedresources.VerificationSkip
	default:
		return trustedresources.VerificationError
	}
}

func decide(outcomes []Outcome) Verdict {
	deciding := outcomes[0]
	for _, outcome := range outcomes { // enforce comes before warn
		if outcome.Result != Passed {
			deciding = outcome
			break
		}
	}
	return Verdict{Outcome: deciding, Policies: outcomes}
}
