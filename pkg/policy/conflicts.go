// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// Conflict says why a ClusterVerificationPolicy does not have the effect in a namespace that
// somebody who reads the policy expects.
type Conflict struct {
	// Policy is the name of the ClusterVerificationPolicy.
	Policy string
	// Reason is v1alpha1.PolicyConflicting or v1alpha1.PolicyNamespaceBroken.
	Reason, Message string
}

// Conflicts returns the conflicts in a namespace with these labels, at most one of each policy.
// own are the VerificationPolicies of the namespace, without materialized ones. A conflict that
// is not certain is left out: about patterns that no simple source shows to have sources in
// common, and about keys that are not in the policies themselves.
func (c *Cluster) Conflicts(
	ctx context.Context, namespace string, namespaceLabels map[string]string, own []*tekton.VerificationPolicy, ring func() ([]string, error),
) []Conflict {
	broken := brokenPattern(own)
	ring = sync.OnceValues(ring)
	here := map[string]bool{}
	var found []Conflict
	var override []*policy
	for _, p := range c.policies {
		if p.Spec.Mode == v1alpha1.PolicySkip || !p.namespaces.Matches(labels.Set(namespaceLabels)) {
			continue
		}
		here[p.Name] = true
		switch {
		case broken != "":
			found = append(found, Conflict{p.Name, v1alpha1.PolicyNamespaceBroken, broken})
		case p.Spec.Tier == v1alpha1.TierOverride && len(own) > 0:
			if made, err := c.make(p, namespace, ring); err == nil {
				override = append(override, made)
			}
		}
	}
	if broken != "" {
		return found
	}
	for _, pair := range c.equals(ctx) {
		if here[pair[0]] && here[pair[1]] {
			found = append(found, equalConflict(pair[0], pair[1]), equalConflict(pair[1], pair[0]))
		}
	}
	found = append(found, ownConflicts(ctx, override, own)...)
	slices.SortStableFunc(found, func(a, b Conflict) int { return cmp.Compare(a.Policy, b.Policy) })
	return slices.CompactFunc(found, func(a, b Conflict) bool { return a.Policy == b.Policy })
}

func equalConflict(name, other string) Conflict {
	return Conflict{name, v1alpha1.PolicyConflicting, fmt.Sprintf(
		"ClusterVerificationPolicy %s has the same tier and priority, sources in common, and no key in common", other)}
}

// equals returns the names of each two policies of the same rank with sources in common and no
// key in common: nothing passes both. It compares policies that are the same in all namespaces.
func (c *Cluster) equals(ctx context.Context) [][2]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conflicting != nil {
		return c.conflicting
	}
	c.conflicting = [][2]string{}
	finder := finder{}
	var fixed []*policy
	for _, p := range c.policies {
		if p.Spec.Mode != v1alpha1.PolicySkip && !p.perNamespace && !p.followsRing() {
			fixed = append(fixed, p.policy("", nil))
		}
	}
	for i, a := range fixed {
		for _, b := range fixed[i+1:] {
			if *a.rank == *b.rank && finder.disjoint(ctx, a, b) {
				c.conflicting = append(c.conflicting, [2]string{a.object.Name, b.object.Name})
			}
		}
	}
	return c.conflicting
}

// ownConflicts returns the conflicts of policies of the tier Override with policies of the
// namespace, which Tekton applies as well.
func ownConflicts(ctx context.Context, override []*policy, own []*tekton.VerificationPolicy) (found []Conflict) {
	finder := finder{}
	for _, object := range own {
		other := &policy{object: object, patterns: patternsOf(object), mode: modeOf(object)}
		if other.mode != Enforce {
			continue
		}
		for _, p := range override {
			if finder.disjoint(ctx, p, other) {
				found = append(found, Conflict{p.object.Name, v1alpha1.PolicyConflicting, fmt.Sprintf(
					"VerificationPolicy %s of the namespace has sources in common, and no key in common: Tekton refuses what a resolver brings from there", object.Name)})
			}
		}
	}
	return found
}

// brokenPattern names the first pattern with which Tekton refuses everything that a resolver
// brings into the namespace.
func brokenPattern(own []*tekton.VerificationPolicy) string {
	for _, p := range own {
		for _, resource := range p.Spec.Resources {
			if _, err := matches(resource.Pattern, "", &limits{}); err != nil {
				return fmt.Sprintf("VerificationPolicy %s: pattern %q: %v; Tekton refuses every run with a resolver in the namespace", p.Name, resource.Pattern, err)
			}
		}
	}
	return ""
}

// finder compares policies. It remembers the IDs of keys, by the key in PEM.
type finder map[string]string

// disjoint reports whether the policies certainly have sources in common and certainly have no
// key in common.
func (f finder) disjoint(ctx context.Context, a, b *policy) bool {
	keysOfA, known := f.keys(ctx, a)
	keysOfB, alsoKnown := f.keys(ctx, b)
	if !known || !alsoKnown || slices.ContainsFunc(keysOfA, func(key string) bool { return slices.Contains(keysOfB, key) }) {
		return false
	}
	for _, source := range slices.Concat(samplesOf(a), samplesOf(b)) {
		matchesA, errA := a.matches(source, &limits{})
		matchesB, errB := b.matches(source, &limits{})
		if matchesA && matchesB && errA == nil && errB == nil {
			return true
		}
	}
	return false
}

// keys returns the IDs of the keys of a policy, if the policy has all of them itself.
func (f finder) keys(ctx context.Context, p *policy) (ids []string, known bool) {
	for _, a := range p.object.Spec.Authorities {
		if a.Key == nil || a.Key.Data == "" {
			return nil, false
		}
		id, found := f[a.Key.Data]
		if !found {
			key, err := ParsePublicKey(ctx, a.Key.Data)
			if err != nil {
				return nil, false
			}
			if id, err = keys.KeyID(key); err != nil {
				return nil, false
			}
			f[a.Key.Data] = id
		}
		ids = append(ids, id+string(cmp.Or(a.Key.HashAlgorithm, "sha256")))
	}
	return ids, len(ids) > 0
}

// samplesOf returns sources that the patterns of a policy may match.
func samplesOf(p *policy) (sources []string) {
	for _, pattern := range p.patterns {
		text := pattern.text
		switch {
		case pattern.literal:
		case isSimple(text): // a dot also matches a dot
			text = strings.TrimSuffix(text, anyText)
		default:
			text = beginningOf(text)
		}
		sources = append(sources, text, text+"x")
	}
	return sources
}

// beginningOf returns the text with which each match of a regular expression begins.
func beginningOf(pattern string) string {
	expression, err := regexp.Compile(strings.TrimPrefix(pattern, "^"))
	if err != nil {
		return ""
	}
	beginning, _ := expression.LiteralPrefix()
	return beginning
}
