// SPDX-License-Identifier: Apache-2.0

// Package decision answers the question "what happens to this resource, and
// why?". The answer depends on a snapshot and on the summary of the resource only,
// so that the controllers, commands and tests get the same one.
package decision

import (
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Action is what happens to a resource.
type Action string

// The actions.
const (
	// Leave: the resource stays as it is.
	Leave Action = "Leave"
	// Sign: the resource is signed with Decision.Key.
	Sign Action = "Sign"
	// Wait: the resource is neither signed nor left for good; Decision.Err says what
	// has to change first.
	Wait Action = "Wait"
)

// Reason says why an action was chosen.
type Reason string

// The reasons to sign. The values appear in Events, logs and metrics.
const (
	// Unsigned: the resource has no signature.
	Unsigned Reason = "Unsigned"
	// KeyRotated: a key of our ring that is not active any more made the signature.
	KeyRotated Reason = "KeyRotated"
	// TektonChanged: a key of our ring made the signature for another release of
	// Tekton, which computes another checksum of the same content.
	TektonChanged Reason = "TektonChanged"
	// ContentChanged: no key of our ring and no authority verifies the signature.
	// Either the content changed after it was signed, or the signing secret no longer
	// has the key, or the annotation never was a signature of this resource.
	ContentChanged Reason = "ContentChanged"
)

// The reasons to leave a resource as it is.
const (
	// SignerNone: resources of this kind have no signer.
	SignerNone Reason = "SignerNone"
	// Deleting: the resource or its namespace is being deleted.
	Deleting Reason = "Deleting"
	// NamespaceNotSelected: the namespace is not selected for signing.
	NamespaceNotSelected Reason = "NamespaceNotSelected"
	// SignedByActiveKey: the signature verifies with the active key.
	SignedByActiveKey Reason = "SignedByActiveKey"
	// SignedByAuthority: the signature verifies only with an authority of a
	// VerificationPolicy of the namespace.
	SignedByAuthority Reason = "SignedByAuthority"
)

// The reasons to wait.
const (
	// TektonUnknown: the installed release of Tekton cannot be read.
	TektonUnknown Reason = "TektonUnknown"
	// TektonTooOld: Tekton would refuse the signature.
	TektonTooOld Reason = "TektonTooOld"
	// NoKey: there is no usable key.
	NoKey Reason = "NoKey"
	// KeyRevoked: a revoked key made the signature, whether or not an authority
	// trusts that key.
	KeyRevoked Reason = "KeyRevoked"
	// Undecided: an authority that cannot be read now may have made the signature.
	Undecided Reason = "Undecided"
	// SignedForOtherTekton: an authority verifies the signature over the checksum of
	// another release of Tekton. The installed release refuses the signature.
	SignedForOtherTekton Reason = "SignedForOtherTekton"
)

// The reasons to wait for somebody with the right to sign.
const (
	// NotAuthorized: a requester is required, and nobody with the right to sign made or
	// approved the content.
	NotAuthorized Reason = "NotAuthorized"
	// RequesterUnsafe: a requester is required, and the named one cannot be relied upon.
	RequesterUnsafe Reason = "RequesterUnsafe"
)

// Decision is what happens to one state of a resource.
type Decision struct {
	Action Action
	Reason Reason
	// Key is the active key. It is nil if there is none, or if the resource is not
	// selected.
	Key *keys.Key
	// Dialect is that of the installed release of Tekton. The checksum in this dialect
	// is to be signed.
	Dialect tekton.Dialect
	// Overwrites reports that signing replaces a signature that no known key
	// verifies. Policies in an informer cache can be out of date, and an overwritten
	// signature is lost. So before the write, the decision must be made again with
	// policies that were read from the API server (docs/design/0004).
	Overwrites bool
	// PreviousKeyID is the key of ours that made the signature which signing replaces.
	PreviousKeyID string
	// RequestedBy is the user in the content that is to be signed; empty if there is none, or
	// if the name cannot be relied upon.
	RequestedBy string
	// Err is set for Wait. It wraps tekton.ErrUnread, tekton.ErrTooOld, keys.ErrNoKey, ErrKeyRevoked,
	// ErrOtherTekton, ErrUndecided, ErrNotAuthorized or ErrRequesterUnsafe.
	Err error
}

// Signer returns the key of the ring that made the signature of a resource, for any
// release of Tekton. It returns nil if there is none.
func Signer(ring *keys.Ring, r *resource.Summary) *keys.Key { return inAnyDialect(ring.Find, r) }

// inAnyDialect returns the key that find returns for the signature over any of the
// checksums.
func inAnyDialect(find func(signature, checksum []byte) *keys.Key, r *resource.Summary) *keys.Key {
	if r.SignatureError != nil {
		return nil
	}
	for _, dialect := range r.Checksums.Dialects(tekton.Newest) {
		if key := find(r.Signature, r.Checksums.In(dialect)); key != nil {
			return key
		}
	}
	return nil
}
