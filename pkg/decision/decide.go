// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"context"
	"errors"
	"fmt"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/snapshot"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

var (
	// ErrUndecided means that another party may have made the signature on a
	// resource, so that the signature is kept.
	ErrUndecided = errors.New("cannot tell whose signature this is, so it is kept")
	// ErrKeyRevoked means that a revoked key made the signature on a resource. Nobody
	// knows whether the operator or a thief of the key did.
	ErrKeyRevoked = errors.New("a revoked key made the signature, so it is kept and the resource is not trusted; " +
		"check the content, then remove the annotation tekton.dev/signature")
	// ErrOtherTekton means that an authority made the signature on a resource for
	// another release of Tekton. Only the authority can make one for this release.
	ErrOtherTekton = errors.New("an authority of a VerificationPolicy made the signature for another release of Tekton, which computes " +
		"another checksum, so the signature is kept although this release refuses it; " +
		"sign the resource again, or remove the annotation tekton.dev/signature")
)

// Decide decides about one state of a resource. The checks run cheapest first:
// authorities may need the API server or a KMS.
func Decide(ctx context.Context, s *snapshot.Snapshot, r *resource.Summary) Decision {
	return aboutRequester(s, r, decide(ctx, s, r))
}

func decide(ctx context.Context, s *snapshot.Snapshot, r *resource.Summary) Decision {
	if reason := notSelected(s, r); reason != "" {
		return Decision{Action: Leave, Reason: reason}
	}
	if err := s.Release.Check(); err != nil {
		return Decision{Action: Wait, Reason: releaseRefused(err), Err: err}
	}
	dialect := s.Release.Dialect()
	checksum := r.Checksums.In(dialect)
	key, err := s.Keys.Active(s.Config.Signer(r.Kind))
	if err == nil && r.SignatureError == nil && key.Verify(r.Signature, checksum) {
		return Decision{Action: Leave, Reason: SignedByActiveKey, Key: key, Dialect: dialect}
	}
	revoked := inAnyDialect(s.Keys.FindRevoked, r)
	if revoked != nil && !s.Keys.MayReplace(revoked.ID) {
		return Decision{Action: Wait, Reason: KeyRevoked, Err: fmt.Errorf("%w (key %s)", ErrKeyRevoked, revoked.ID)}
	}
	if err != nil {
		return Decision{Action: Wait, Reason: NoKey, Err: err}
	}
	d := Decision{Action: Sign, Key: key, Dialect: dialect}
	switch {
	case errors.Is(r.SignatureError, resource.ErrUnsigned):
		d.Reason = Unsigned
	case r.SignatureError != nil:
		d.Reason = ContentChanged
	case revoked != nil:
		d.Reason, d.PreviousKeyID = KeyRotated, revoked.ID
	default:
		return d.aboutSignature(ctx, s, r)
	}
	return d
}

// aboutSignature completes the decision about a signature that the active key does not
// verify.
func (d Decision) aboutSignature(ctx context.Context, s *snapshot.Snapshot, r *resource.Summary) Decision {
	if signer := s.Keys.Find(r.Signature, r.Checksums.In(d.Dialect)); signer != nil {
		d.Reason, d.PreviousKeyID = KeyRotated, signer.ID
		return d
	}
	if signer := Signer(s.Keys, r); signer != nil {
		d.Reason, d.PreviousKeyID = TektonChanged, signer.ID
		return d
	}
	return d.aboutUnknownSignature(ctx, s.Authorities, r)
}

func releaseRefused(err error) Reason {
	if errors.Is(err, tekton.ErrUnread) {
		return TektonUnknown
	}
	return TektonTooOld
}

// notSelected returns why a resource is left as it is whatever its signature, or
// "".
func notSelected(s *snapshot.Snapshot, r *resource.Summary) Reason {
	switch {
	case s.Config.Signer(r.Kind) == config.SignerNone:
		return SignerNone
	case r.Deleting || !s.Namespace.Active:
		return Deleting
	case !s.Config.Selects(s.Namespace.Labels):
		return NamespaceNotSelected
	}
	return ""
}

// aboutUnknownSignature completes the decision about a signature that no key of
// the ring verifies. The signature of an authority is kept, also if the authority made
// the signature for another release of Tekton: only the authority can make a new one.
func (d Decision) aboutUnknownSignature(ctx context.Context, authorities snapshot.Authorities, r *resource.Summary) Decision {
	var undecided error
	for _, dialect := range r.Checksums.Dialects(d.Dialect) {
		authorized, err := authorities.Authorizes(ctx, r.Signature, r.Checksums.In(dialect))
		switch {
		case authorized && dialect == d.Dialect:
			d.Action, d.Reason = Leave, SignedByAuthority
			return d
		case authorized:
			d.Action, d.Reason, d.Err = Wait, SignedForOtherTekton, fmt.Errorf("%w (%s)", ErrOtherTekton, dialect)
			return d
		case err != nil:
			undecided = err
		}
	}
	if undecided != nil {
		d.Action, d.Reason, d.Err = Wait, Undecided, fmt.Errorf("%w: %w", ErrUndecided, undecided)
		return d
	}
	d.Reason, d.Overwrites = ContentChanged, true
	return d
}
