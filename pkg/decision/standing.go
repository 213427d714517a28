// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"errors"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Standing says how the signature of a selected resource stands. The values appear in
// metrics.
type Standing string

// The standings.
const (
	// StandingSigned: the active key made the signature.
	StandingSigned Standing = "signed"
	// StandingRetiredKey: a key of our ring that is not active made the signature.
	StandingRetiredKey Standing = "retired_key"
	// StandingForeign: an authority of a VerificationPolicy made the signature.
	StandingForeign Standing = "foreign"
	// StandingUnsigned: there is no signature.
	StandingUnsigned Standing = "unsigned"
	// StandingInvalid: there is a signature that the installed release of Tekton refuses, or
	// that a revoked key made.
	StandingInvalid Standing = "invalid"
	// StandingUndecided: it is not known whose signature this is.
	StandingUndecided Standing = "undecided"
)

// Standing returns how the signature of the resource stands that the decision is about.
// waits reports that the resource waits for a signature of the controller, and not for a
// person. selected is false for a resource that the controller leaves alone.
func (d Decision) Standing(r *resource.Summary) (standing Standing, waits, selected bool) {
	switch d.Reason {
	case SignerNone, Deleting, NamespaceNotSelected:
		return "", false, false
	case SignedByActiveKey:
		return StandingSigned, false, true
	case SignedByAuthority:
		return StandingForeign, false, true
	case KeyRotated:
		return StandingRetiredKey, true, true
	case KeyRevoked, SignedForOtherTekton:
		return StandingInvalid, false, true
	case Unsigned, ContentChanged, TektonChanged, TektonUnknown, TektonTooOld, NoKey, Undecided, RequesterUnsafe:
		waits = true
	case NotAuthorized: // waits for somebody with the right to sign
	}
	switch {
	case errors.Is(r.SignatureError, resource.ErrUnsigned):
		return StandingUnsigned, waits, true
	case r.SignatureError != nil, d.Reason == ContentChanged, d.Reason == TektonChanged:
		return StandingInvalid, waits, true
	}
	return StandingUndecided, waits, true
}
