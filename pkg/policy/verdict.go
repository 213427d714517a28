// SPDX-License-Identifier: Apache-2.0

// Package policy verifies resources with the VerificationPolicies of a namespace.
// Its verdicts agree with Tekton's own verifier (pkg/trustedresources in
// tektoncd/pipeline). Tekton reports the first failure only; a Verdict has the
// outcome of every policy that matches.
package policy

import (
	"github.com/tektoncd/pipeline/pkg/trustedresources"
)

// Result is the result of a verification.
type Result string

// The results.
const (
	Passed  Result = "PASSED"
	Failed  Result = "FAILED"
	Skipped Result = "SKIPPED"
)

// Reason says why a result is not Passed. It is empty for Passed.
type Reason string

// The reasons.
const (
	// NoPolicy: no policy of the namespace matches the source.
	NoPolicy Reason = "NoPolicy"
	// PolicySkip: a ClusterVerificationPolicy says that the resource is not verified.
	PolicySkip Reason = "PolicySkip"
	// Unsigned: the resource has no signature.
	Unsigned Reason = "Unsigned"
	// SignatureInvalid: the signature is not base64, or no authority of the
	// policy verifies the signature over this content. This reason does not tell
	// changed content from a key that the policy does not trust.
	SignatureInvalid Reason = "SignatureInvalid"
	// KeyUnknown: a key of our own key ring made the signature, but the policy
	// does not trust this key.
	KeyUnknown Reason = "KeyUnknown"
	// KeyRevoked: a revoked key made the signature. A policy may still trust the key,
	// so this reason is not one of Tekton's verifier: Evaluate adds it.
	KeyRevoked Reason = "KeyRevoked"
	// KeyUnavailable: a key of the policy cannot be read, because its Secret is
	// missing or its KMS does not answer.
	KeyUnavailable Reason = "KeyUnavailable"
	// KeyNotAllowed: the policy refers to a KMS, or to a Secret of another
	// namespace, that the configuration does not allow. The key was not read.
	// Tekton has no such setting: it may accept the signature.
	KeyNotAllowed Reason = "KeyNotAllowed"
	// SignatureUnavailable: the registry that may hold the signature does not
	// answer.
	SignatureUnavailable Reason = "SignatureUnavailable"
	// PolicyInvalid: the policy has a pattern that is not a regular expression, or
	// an authority with an invalid key.
	PolicyInvalid Reason = "PolicyInvalid"
	// DigestMismatch: the checksum of the content differs from the checksum that
	// the run recorded.
	DigestMismatch Reason = "DigestMismatch"
	// ReferenceMismatch: a TaskRun of a PipelineRun is not the run that a task of the
	// Pipeline asks for.
	ReferenceMismatch Reason = "ReferenceMismatch"
	// NamespaceMismatch: the content belongs to another namespace than its source
	// says, or to none.
	NamespaceMismatch Reason = "NamespaceMismatch"
	// ContentUnavailable: the content that ran cannot be established.
	ContentUnavailable Reason = "ContentUnavailable"
	// Inline: the run contains the spec itself, so there is no resource to verify.
	Inline Reason = "Inline"
)

// Mode is Tekton's reaction to a resource whose result is not Passed.
type Mode string

// The modes: Tekton refuses the run, warns and runs it, or only runs it.
const (
	Enforce Mode = "enforce"
	Warn    Mode = "warn"
	Skip    Mode = "skip"
)

// Outcome is the outcome of one policy.
type Outcome struct {
	// Policy is the name of the policy. It is empty when no policy matches.
	Policy string
	// Rank is that of a ClusterVerificationPolicy; nil for a VerificationPolicy.
	Rank *Rank
	// Revision is the state of that policy.
	Revision Revision
	Mode     Mode
	Result   Result
	Reason   Reason
	// KeyID is the ID (see keys.KeyID) of the key that verifies the signature.
	KeyID string
	// Message has details for an operator. It can name Secrets and KMS.
	Message string
}

// Verdict is the outcome that decides: that of the first enforce policy that fails,
// or else of the first warn policy that fails, or else of the first policy.
type Verdict struct {
	Outcome
	// Policies has the outcome of every policy that matches: enforce policies
	// before warn policies, each by name.
	Policies []Outcome
	// Own is the verdict of the policies of the namespace itself, if
	// ClusterVerificationPolicies decided. Tekton knows only these.
	Own *Verdict
	// Shadow is the verdict without the policies in mode skip that decided, so that
	// somebody can see what they let pass. It is nil otherwise.
	Shadow *Verdict
}

// Tekton returns the result that Tekton's VerifyResource gives.
func (v Verdict) Tekton() trustedresources.VerificationResultType {
	if v.Own != nil {
		return v.Own.Tekton()
	}
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

// decide returns the verdict of all outcomes. There is at least one outcome.
func decide(outcomes []Outcome) Verdict {
	deciding := outcomes[0]
	for _, outcome := range outcomes { // enforce policies come before warn policies
		if outcome.Result != Passed {
			deciding = outcome
			break
		}
	}
	return Verdict{Outcome: deciding, Policies: outcomes}
}
