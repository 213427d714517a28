// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/base64"
	"slices"
)

// Unavailable says why the content of a resource, or its signature, is not
// known. It is an error, so that a function can return it as one.
type Unavailable struct {
	Reason  Reason
	Message string
	// Temporary reports that the same question may have an answer later.
	Temporary bool
}

// Error implements error.
func (u Unavailable) Error() string { return string(u.Reason) + ": " + u.Message }

// Resource is what is known of one resource that a run depends on.
type Resource struct {
	// Unavailable says why the content is not known. If its Reason is empty, the
	// content is known, and the other fields are set.
	Unavailable Unavailable
	// Checksum is Tekton's checksum of the content.
	Checksum []byte
	// Signatures are candidates: values of the annotation tekton.dev/signature.
	// The first is that of the content itself, empty if the content has none. Each
	// counts only if it verifies over Checksum.
	Signatures []string
	// Source and NoMatch are as in Input.
	Source  string
	NoMatch Mode
}

// InputVerifier verifies one signature by the policies of a namespace. Verifier
// implements it.
type InputVerifier interface {
	Verify(ctx context.Context, namespace string, input Input) (Verdict, error)
}

// OwnKeys are the keys of this installation.
type OwnKeys interface {
	// Signer returns the ID of the key that made the signature over the checksum.
	// ours is false if no key of this installation, revoked or not, made the
	// signature.
	Signer(signature, checksum []byte) (keyID string, ours bool)
	// Revoked reports whether the key with this ID is revoked.
	Revoked(keyID string) bool
}

// Evaluate returns the verdict of the policies for a namespace on a resource. The
// first candidate that does not fail decides. If all fail, the verdict is that
// on the first: Tekton verifies the signature of the content itself. A signature of
// a revoked key fails, whichever policy trusts the key, and says more than that the
// content itself has no signature.
func Evaluate(ctx context.Context, verifier InputVerifier, keys OwnKeys, namespace string, r Resource) Verdict {
	if r.Unavailable.Reason != "" {
		return notEvaluated(r.Unavailable)
	}
	var first Verdict
	for i, candidate := range r.Signatures {
		verdict, err := verifier.Verify(ctx, namespace, Input{
			Checksum: r.Checksum, Signature: candidate, Source: r.Source, NoMatch: r.NoMatch,
		})
		if err != nil {
			return notEvaluated(Unavailable{Reason: PolicyInvalid, Message: err.Error()})
		}
		verdict = withoutRevoked(verdict, keys)
		if verdict.Result != Failed {
			return verdict
		}
		if i == 0 || (verdict.Reason == KeyRevoked && first.Reason == Unsigned) {
			first = verdict
		}
	}
	return nameOwnKey(first, keys, r)
}

// withoutRevoked returns the verdict after each policy that accepts a signature of a
// revoked key is made to fail.
func withoutRevoked(verdict Verdict, keys OwnKeys) Verdict {
	if verdict.Shadow != nil {
		shadow := withoutRevoked(*verdict.Shadow, keys)
		verdict.Shadow = &shadow
	}
	accepts := func(o Outcome) bool { return o.Result == Passed && keys.Revoked(o.KeyID) }
	if !slices.ContainsFunc(verdict.Policies, accepts) {
		return verdict
	}
	outcomes := slices.Clone(verdict.Policies)
	for i, o := range outcomes {
		if accepts(o) {
			outcomes[i].Result, outcomes[i].Reason, outcomes[i].Message = Failed, KeyRevoked, "the policy trusts a revoked key"
		}
	}
	decided := decide(outcomes)
	decided.Own, decided.Shadow = verdict.Own, verdict.Shadow
	return decided
}

// notEvaluated is the verdict on a resource that could not be evaluated. Content
// that is certainly not what the run or the Pipeline asked for, or what its source
// names, fails. Everything else is skipped.
func notEvaluated(u Unavailable) Verdict {
	result := Skipped
	if u.Reason == DigestMismatch || u.Reason == ReferenceMismatch || u.Reason == NamespaceMismatch {
		result = Failed
	}
	return Verdict{Outcome: Outcome{Result: result, Reason: u.Reason, Message: u.Message}}
}

// nameOwnKey returns the verdict with the reason KeyUnknown, or KeyRevoked, and the
// key's ID if a key of this installation made the signature of the content, and no
// policy trusts that key.
func nameOwnKey(verdict Verdict, keys OwnKeys, r Resource) Verdict {
	if verdict.Reason != SignatureInvalid {
		return verdict
	}
	signature, err := base64.StdEncoding.DecodeString(r.Signatures[0])
	if err != nil {
		return verdict
	}
	if id, ours := keys.Signer(signature, r.Checksum); ours {
		verdict.Reason, verdict.KeyID = KeyUnknown, id
		if keys.Revoked(id) {
			verdict.Reason = KeyRevoked
		}
	}
	return verdict
}
