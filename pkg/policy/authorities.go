// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
)

// Authorizes reports whether an authority of any policy verifies the signature
// over the message. Patterns and modes do not count.
//
// Each authority is used alone: an authority whose key is not usable does not
// spoil the other authorities of its policy, as it would in Verify. An authority
// with an invalid key (no key, no PEM, unknown hash, a Secret without exactly one
// entry) can never verify a signature and is skipped. When no authority verifies
// the signature and at least one key cannot be read now (the Secret is missing,
// the KMS does not answer) or is not allowed, the error names the unread keys: one of
// them may have made the signature.
//
// The call ends after callTimeout at the latest, however many KMS hang. A Set
// with Keys.Fresh answers from keys that are read during the call.
func (s *Set) Authorizes(ctx context.Context, signature, message []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	check := newSignatureCheck(signature, message)
	local, remote := s.candidates()
	authorized, unread := s.anyVerifies(ctx, local, check)
	if authorized || len(remote) == 0 {
		return authorized, unread
	}
	var unreadRemote error
	err := s.keys.limits.waits.do(ctx, remote[0].policy.Namespace, func(ctx context.Context) error {
		authorized, unreadRemote = s.anyVerifies(ctx, remote, check)
		return unreadRemote
	})
	if authorized {
		return true, nil
	}
	return false, errors.Join(unread, err)
}

// anyVerifies reports whether a candidate verifies the signature. Otherwise the error
// names the candidates whose keys were not read.
func (s *Set) anyVerifies(ctx context.Context, candidates []candidate, check *signatureCheck) (bool, error) {
	access := s.keys.access()
	var unread []error
	if err := bounded("authorities", len(candidates), maxCandidates); err != nil {
		candidates, unread = candidates[:maxCandidates], append(unread, err)
	}
	for _, candidate := range candidates {
		verifies, err := candidate.verifies(ctx, s.keys, access, check)
		if verifies {
			return true, nil
		}
		if errors.Is(err, errUnavailable) || errors.Is(err, errNotAllowed) {
			unread = append(unread, fmt.Errorf("VerificationPolicy %s/%s, authority %q: %w",
				candidate.policy.Namespace, candidate.policy.Name, candidate.Name, err))
		}
	}
	return false, errors.Join(unread...)
}

// maxCandidates bounds the authorities that are asked for one signature. If a
// namespace has more and none of these verifies the signature, the answer is not
// known.
const maxCandidates = 1_000

// candidate is an authority that may verify a signature.
type candidate struct {
	v1alpha1.Authority
	policy *v1alpha1.VerificationPolicy
}

// candidates returns all authorities: those with keys of a KMS, and the others in the
// order of the time that reading the key takes. A KMS that hangs must not use up the
// time of the others.
func (s *Set) candidates() (local, remote []candidate) {
	var inline, secrets []candidate
	for _, p := range s.all() {
		for _, a := range p.object.Spec.Authorities {
			switch c := (candidate{a, p.object}); {
			case a.Key == nil || a.Key.Data != "":
				inline = append(inline, c)
			case a.Key.SecretRef != nil:
				secrets = append(secrets, c)
			default:
				remote = append(remote, c)
			}
		}
	}
	return append(inline, secrets...), remote
}

// all returns the policies of the namespace itself and those of the cluster.
func (s *Set) all() []*policy {
	return slices.Concat(append([][]*policy{s.policies}, slices.Concat(s.ranks.override, s.ranks.fallback)...)...)
}

func (c candidate) verifies(ctx context.Context, keys *Keys, access Access, check *signatureCheck) (bool, error) {
	a, err := keys.authority(ctx, access, c.policy.Namespace, c.Key)
	switch {
	case err != nil:
		return false, err
	case a.unavailable != nil:
		return false, a.unavailable
	}
	err = check.verify(ctx, a)
	if isTimeout(err) {
		return false, fmt.Errorf("%w: %w", errUnavailable, err)
	}
	return err == nil, nil
}
