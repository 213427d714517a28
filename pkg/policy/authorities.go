// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
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
// the KMS does not answer), the error names the unread keys.
//
// The call ends after callTimeout at the latest, however many KMS hang. A Set
// with Keys.Fresh answers from keys that are read during the call.
func (s *Set) Authorizes(ctx context.Context, signature, message []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	check := newSignatureCheck(signature, message)
	var unread []error
	candidates := s.candidates()
	if err := bounded("authorities", len(candidates), maxCandidates); err != nil {
		candidates, unread = candidates[:maxCandidates], append(unread, err)
	}
	for _, candidate := range candidates {
		verifies, err := candidate.verifies(ctx, s.keys, check)
		if verifies {
			return true, nil
		}
		if errors.Is(err, errUnavailable) {
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

// candidates returns all authorities. Those whose keys are in a KMS are last: a
// KMS that hangs must not use up the time of the others.
func (s *Set) candidates() []candidate {
	all := make([]candidate, 0, len(s.policies))
	for _, p := range s.policies {
		for _, a := range p.object.Spec.Authorities {
			all = append(all, candidate{a, p.object})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.cost(), b.cost()) })
	return all
}

// cost orders candidates by the time that reading the key takes.
func (c candidate) cost() int {
	switch {
	case c.Key == nil || c.Key.Data != "":
		return 0
	case c.Key.SecretRef != nil:
		return 1
	default:
		return 2
	}
}

func (c candidate) verifies(ctx context.Context, keys *Keys, check *signatureCheck) (bool, error) {
	a, err := keys.authority(ctx, c.Key)
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
