// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// look is what the VerificationPolicies of the cluster say of some keys.
type look struct {
	policies []v1alpha1.PolicyReference
	// trusts has an answer of each policy, by ID of the key. It has the keys that made a
	// signature.
	trusts map[string][]answer
	// mayTrust is for the other keys: whether a policy may trust the key.
	mayTrust map[string][]bool
}

// answer is whether a policy trusts a key.
type answer int

const (
	no answer = iota
	yes
	// unknown: a key of the policy cannot be read, or only by Tekton's controller.
	unknown
)

func answerOf(outcome policy.Outcome) answer {
	switch {
	case outcome.Result == policy.Passed:
		return yes
	case outcome.Reason == policy.KeyUnavailable || outcome.Reason == policy.KeyNotAllowed:
		return unknown
	}
	return no
}

// lookAt asks the policies about the keys with these IDs, with a signature of each key that
// has a probe. read reads the keys of the policies.
func lookAt(ctx context.Context, all policiesOf, read *policy.Keys, probes map[string]policy.Input, ids []string) (*look, error) {
	l := &look{trusts: map[string][]answer{}, mayTrust: map[string][]bool{}}
	named := sets.New(ids...)
	for keyID := range probes {
		l.trusts[keyID] = []answer{} // also if there is no policy
		named.Delete(keyID)
	}
	for _, namespace := range slices.Sorted(maps.Keys(all)) {
		set := policy.NewSet(all[namespace], read)
		for _, name := range set.Names() {
			l.policies = append(l.policies, v1alpha1.PolicyReference{Namespace: namespace, Policy: name})
		}
		for keyID, probe := range probes {
			outcomes, err := set.Outcomes(ctx, probe)
			if err != nil {
				return nil, err
			}
			for _, outcome := range outcomes {
				l.trusts[keyID] = append(l.trusts[keyID], answerOf(outcome))
			}
		}
		for keyID := range named {
			found, err := set.MayTrust(ctx, keyID)
			if err != nil {
				return nil, err
			}
			l.mayTrust[keyID] = append(l.mayTrust[keyID], found...)
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
		if !slices.ContainsFunc(others, func(id string) bool { return l.mayRely(i, id) }) {
			continue
		}
		concerned++
		if answers := l.trusts[keyID]; answers == nil || answers[i] != yes {
			found = append(found, p)
		}
	}
	return found, concerned
}

// mayRely reports that a policy trusts a key, or may do so.
func (l *look) mayRely(policy int, keyID string) bool {
	if answers, asked := l.trusts[keyID]; asked {
		return answers[policy] != no
	}
	may, named := l.mayTrust[keyID]
	return named && may[policy]
}
