// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"context"
	"errors"
	"fmt"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/snapshot"
)

var (
	// ErrUndecided means that another party may have made the signature on a
	// resource, so that the signature is kept.
	ErrUndecided = errors.New("cannot tell whose signature this is, so it is kept")
	// ErrKeyRevoked means that a revoked key made the signature on a resource. Nobody
	// knows whether the operator or a thief of the key did.
	ErrKeyRevoked = errors.New("a revoked key made the signature, so it is kept and the resource is not trusted; " +
		"check the content, then remove the annotation tekton.dev/signature")
)

// Decide decides about one state of a resource. The checks run cheapest first:
// authorities may need the API server or a KMS.
func Decide(ctx context.Context, s *snapshot.Snapshot, r *resource.Summary) Decision {
	if reason := notSelected(s, r); reason != "" {
		return Decision{Action: Leave, Reason: reason}
	}
	if err := s.Release.Check(); err != nil {
		return Decision{Action: Wait, Reason: TektonTooOld, Err: err}
	}
	key, err := s.Keys.Active(s.Config.Signer(r.Kind))
	if err == nil && r.SignatureError == nil && key.Verify(r.Signature, r.Checksum) {
		return Decision{Action: Leave, Reason: SignedByActiveKey, Key: key}
	}
	if revoked := revokedKey(s, r); revoked != nil {
		return Decision{Action: Wait, Reason: KeyRevoked, Err: fmt.Errorf("%w (key %s)", ErrKeyRevoked, revoked.ID)}
	}
	if err != nil {
		return Decision{Action: Wait, Reason: NoKey, Err: err}
	}
	d := Decision{Action: Sign, Key: key}
	switch {
	case errors.Is(r.SignatureError, resource.ErrUnsigned):
		d.Reason = Unsigned
	case r.SignatureError != nil:
		d.Reason = ContentChanged
	case s.Keys.Find(r.Signature, r.Checksum) != nil:
		d.Reason = KeyRotated
	default:
		return d.aboutUnknownSignature(ctx, s.Authorities, r)
	}
	return d
}

// revokedKey returns the revoked key that made the signature, or nil.
func revokedKey(s *snapshot.Snapshot, r *resource.Summary) *keys.Key {
	if r.SignatureError != nil {
		return nil
	}
	return s.Keys.FindRevoked(r.Signature, r.Checksum)
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
// the ring verifies.
func (d Decision) aboutUnknownSignature(ctx context.Context, authorities snapshot.Authorities, r *resource.Summary) Decision {
	authorized, err := authorities.Authorizes(ctx, r.Signature, r.Checksum)
	switch {
	case authorized:
		d.Action, d.Reason = Leave, SignedByAuthority
	case err != nil:
		d.Action, d.Reason, d.Err = Wait, Undecided, fmt.Errorf("%w: %w", ErrUndecided, err)
	default:
		d.Reason, d.Overwrites = ContentChanged, true
	}
	return d
}
