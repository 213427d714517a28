// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"maps"
	"slices"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// look is what the VerificationPolicies of the cluster say of signatures of some keys.
type look struct {
	policies []v1alpha1.PolicyReference
	// trusts has an answer of each policy, by ID of the key. A key that could not be asked
	// about has none.
	trusts map[string][]answer
}

// answer is whether a policy trusts a key.
type answer int

const (
	no answer = iota
	yes
	// unknown: a key of the policy cannot be read.
	unknown
)

func answerOf(outcome policy.Outcome) answer {
	switch {
	case outcome.Result == policy.Passed:
		return yes
	case outcome.Reason == policy.KeyUnavailable:
		return unknown
	}
	return no
}

// lookAt asks the policies about signatures of keys. read reads the keys of the policies.
func lookAt(ctx context.Context, all policiesOf, read *policy.Keys, probes map[string]policy.Input) (*look, error) {
	l := &look{trusts: map[string][]answer{}}
	for _, namespace := range slices.Sorted(maps.Keys(all)) {
		set, listed := policy.NewSet(all[namespace], read), false
		for keyID, probe := range probes {
			outcomes, err := set.Outcomes(ctx, probe)
			if err != nil {
				return nil, err
			}
			for _, outcome := range outcomes {
				if !listed {
					l.policies = append(l.policies, v1alpha1.PolicyReference{Namespace: namespace, Policy: outcome.Policy})
				}
				l.trusts[keyID] = append(l.trusts[keyID], answerOf(outcome))
			}
			listed = true
		}
	}
	for keyID := range probes {
		if l.trusts[keyID] == nil {
			l.trusts[keyID] = []answer{} // there is no policy
		}
	}
	return l, nil
}

// count returns how many policies trust a key. It is nil if that is not known.
func (l *look) count(keyID string) *int64 {
	answers, asked := l.trusts[keyID]
	if !asked {
		return nil
	}
	var count int64
	for _, trusts := range answers {
		if trusts == yes {
			count++
		}
	}
	return &count
}

// unready returns the policies that trust one of the others, or may do so, and do not trust
// a key; and how many policies trust one of the others.
func (l *look) unready(keyID string, others []string) (found []v1alpha1.PolicyReference, concerned int) {
	for i, p := range l.policies {
		if !slices.ContainsFunc(others, func(id string) bool { return l.answer(id, i) != no }) {
			continue
		}
		concerned++
		if l.answer(keyID, i) != yes {
			found = append(found, p)
		}
	}
	return found, concerned
}

func (l *look) answer(keyID string, policy int) answer {
	if answers := l.trusts[keyID]; answers != nil {
		return answers[policy]
	}
	return no
}
