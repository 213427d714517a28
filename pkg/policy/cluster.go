// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// ClusterPolicy is a ClusterVerificationPolicy whose keys were read.
type ClusterPolicy struct {
	Name     string
	Revision Revision
	// Generation is that of the object.
	Generation int64
	Spec       v1alpha1.ClusterVerificationPolicySpec
	// PublicKeys has the public key in PEM of each authority, by its name, apart from those
	// that stand for a KeyRing.
	PublicKeys map[string]string
}

// Rank is the place of a ClusterVerificationPolicy in the order of policies.
type Rank struct {
	Tier     v1alpha1.PolicyTier
	Priority int32
}

// Cluster holds all ClusterVerificationPolicies of one moment. It is safe for concurrent use.
type Cluster struct {
	policies []selecting // by tier and priority

	mu sync.Mutex
	// made are the policies as Sets use them. Namespaces share them, because most policies
	// are the same in each namespace.
	made map[instance]*policy
	// conflicting are the names of each two policies that nothing passes together; nil before
	// somebody asks.
	conflicting [][2]string
}

type selecting struct {
	ClusterPolicy

	namespaces labels.Selector
	// perNamespace reports that a pattern names the namespace of the run.
	perNamespace bool
}

// instance identifies a policy for namespaces with the same keys of their KeyRing.
type instance struct{ name, namespace, ring string }

// NewCluster returns a Cluster. The error names a policy that is not valid.
func NewCluster(policies []ClusterPolicy) (*Cluster, error) {
	c := &Cluster{made: map[instance]*policy{}}
	for _, p := range policies {
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.NamespaceSelector)
		if err != nil {
			return nil, fmt.Errorf("ClusterVerificationPolicy %s: namespaceSelector: %w", p.Name, err)
		}
		s := selecting{ClusterPolicy: p, namespaces: selector}
		for _, resource := range p.Spec.Resources {
			if err := checkPattern(resource.Pattern); err != nil {
				return nil, fmt.Errorf("ClusterVerificationPolicy %s: pattern %q: %w", p.Name, resource.Pattern, err)
			}
			s.perNamespace = s.perNamespace || strings.Contains(resource.Source, namespaceVariable)
		}
		c.policies = append(c.policies, s)
	}
	slices.SortStableFunc(c.policies, func(a, b selecting) int {
		return cmp.Or(cmp.Compare(a.Spec.Priority, b.Spec.Priority), cmp.Compare(a.Name, b.Name))
	})
	return c, nil
}

// namespaceVariable in a source stands for the namespace of the run.
const namespaceVariable = "$(namespace)"

// checkPattern returns why a pattern, which may be empty, is never matched with a source.
func checkPattern(text string) error {
	if text == "" {
		return nil
	}
	if err := (&limits{}).allow(whole(text)); err != nil {
		return err
	}
	_, err := regexp.Compile(whole(text))
	return err
}

// whole returns a regular expression that matches the whole source, also with a text like
// "a|b".
func whole(text string) string { return "^(?:" + text + ")$" }

// Len returns the number of policies.
func (c *Cluster) Len() int { return len(c.policies) }

// Selects returns the names of the policies that select a namespace with these labels.
func (c *Cluster) Selects(namespace map[string]string) (names []string) {
	for _, p := range c.policies {
		if p.namespaces.Matches(labels.Set(namespace)) {
			names = append(names, p.Name)
		}
	}
	return names
}

// ModeOf returns Enforce if a policy in mode enforce selects a namespace with these labels,
// or else Warn if one in mode warn does. It is empty otherwise.
func (c *Cluster) ModeOf(namespace map[string]string) (mode Mode) {
	for _, p := range c.policies {
		if p.Spec.Mode == v1alpha1.PolicySkip || !p.namespaces.Matches(labels.Set(namespace)) {
			continue
		}
		if p.Spec.Mode == v1alpha1.PolicyEnforce {
			return Enforce
		}
		mode = Warn
	}
	return mode
}

// WithFixedKeys returns the policies that name their keys, and no KeyRing, with these keys. A
// rotation has to wait until they name the next key. The other fields are empty.
func (c *Cluster) WithFixedKeys() (fixed []*tekton.VerificationPolicy) {
	for _, p := range c.policies {
		if p.Spec.Mode != v1alpha1.PolicySkip && !p.followsRing() {
			fixed = append(fixed, p.policy("", nil).object)
		}
	}
	return fixed
}

func (s selecting) followsRing() bool {
	return slices.ContainsFunc(s.Spec.Authorities, func(a v1alpha1.PolicyAuthority) bool { return a.KeyRing != "" })
}

// Ranks are the ClusterVerificationPolicies for one namespace, those that decide first
// before others. The policies of one rank decide together.
type Ranks struct {
	override, fallback [][]*policy
	// materialized are the names of the VerificationPolicies that stand for some of these.
	materialized map[string]bool
}

// Ranks returns the policies that select a namespace with these labels. ring returns the
// public keys in PEM of the KeyRing that serves the namespace.
func (c *Cluster) Ranks(namespace string, namespaceLabels map[string]string, ring func() ([]string, error)) (Ranks, error) {
	var ranks Ranks
	ring = sync.OnceValues(ring)
	for _, p := range c.policies {
		if !p.namespaces.Matches(labels.Set(namespaceLabels)) {
			continue
		}
		next, err := c.make(p, namespace, ring)
		if err != nil {
			return Ranks{}, err
		}
		if p.Spec.Materialize {
			if ranks.materialized == nil {
				ranks.materialized = map[string]bool{}
			}
			ranks.materialized[MaterializedName(p.Name)] = true
		}
		tier := &ranks.override
		if p.Spec.Tier == v1alpha1.TierDefault {
			tier = &ranks.fallback
		}
		if last := len(*tier) - 1; last >= 0 && (*tier)[last][0].rank.Priority == p.Spec.Priority {
			(*tier)[last] = append((*tier)[last], next)
		} else {
			*tier = append(*tier, []*policy{next})
		}
	}
	for _, rank := range slices.Concat(ranks.override, ranks.fallback) {
		slices.SortStableFunc(rank, byModeAndName)
	}
	return ranks, nil
}

// make returns a policy as the Set of a namespace uses it.
func (c *Cluster) make(p selecting, namespace string, ring func() ([]string, error)) (*policy, error) {
	key := instance{name: p.Name}
	if p.perNamespace {
		key.namespace = namespace
	}
	var keys []string
	if p.followsRing() {
		var err error
		if keys, err = ring(); err != nil {
			return nil, fmt.Errorf("ClusterVerificationPolicy %s: the keys of the KeyRing of namespace %s are not known: %w", p.Name, namespace, err)
		}
		key.ring = strings.Join(keys, "\x00")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.made[key]; ok {
		return found, nil
	}
	made := p.policy(namespace, keys)
	c.made[key] = made
	return made, nil
}

func (s selecting) policy(namespace string, ring []string) *policy {
	object := &tekton.VerificationPolicy{ObjectMeta: metav1.ObjectMeta{
		Name: s.Name, UID: types.UID(s.Revision.UID), ResourceVersion: s.Revision.ResourceVersion,
	}}
	for _, a := range s.Spec.Authorities {
		keys := []string{s.PublicKeys[a.Name]}
		if a.KeyRing != "" {
			keys = ring
		}
		for _, key := range keys {
			object.Spec.Authorities = append(object.Spec.Authorities, tekton.Authority{
				Name: a.Name, Key: &tekton.KeyRef{Data: key, HashAlgorithm: a.HashAlgorithm},
			})
		}
	}
	patterns := make([]pattern, 0, len(s.Spec.Resources))
	for _, resource := range s.Spec.Resources {
		patterns = append(patterns, patternOf(resource, namespace))
	}
	return &policy{
		object: object, patterns: patterns, mode: Mode(s.Spec.Mode), loading: make(chan struct{}, 1),
		rank:     &Rank{s.Spec.Tier, s.Spec.Priority},
		revision: func() Revision { return s.Revision },
	}
}

func patternOf(resource v1alpha1.PolicyResource, namespace string) pattern {
	if resource.Pattern != "" {
		return pattern{text: whole(resource.Pattern)}
	}
	text, open := strings.CutSuffix(resource.Source, "*")
	return pattern{text: normalized(strings.ReplaceAll(text, namespaceVariable, namespace)), literal: true, open: open}
}

// over returns the policies that decide about a normalized source, of which own are those
// of the namespace itself. Policies of the tier Default decide only where none of the
// namespace itself matches.
func (r Ranks) over(own *match, source string) *match {
	deciding := own.withoutMaterialized()
	if deciding.invalid == nil && len(deciding.policies) == 0 {
		deciding = decidingOf(r.fallback, own, own, source)
	}
	return decidingOf(r.override, deciding, own, source)
}

// withoutMaterialized returns the match without the policies that stand for
// ClusterVerificationPolicies: these decide at their own rank.
func (m *match) withoutMaterialized() *match {
	if m.invalid != nil || !slices.ContainsFunc(m.policies, isMaterialized) {
		return m
	}
	return &match{policies: slices.DeleteFunc(slices.Clone(m.policies), isMaterialized), own: m}
}

func isMaterialized(p *policy) bool { return p.materialized }

// decidingOf returns the match of the first rank that has one, or else the match below.
func decidingOf(ranks [][]*policy, below, own *match, source string) *match {
	for _, rank := range slices.Backward(ranks) {
		m := newMatch(rank, source)
		if m.invalid == nil && len(m.policies) == 0 {
			continue
		}
		m.own = own
		verifying := slices.DeleteFunc(slices.Clone(m.policies), func(p *policy) bool { return p.mode == Skip })
		switch {
		case m.invalid != nil:
		case len(verifying) > 0: // beside them, policies in mode skip have no effect
			m.policies = verifying
		default:
			m.shadowed = below
		}
		below = m
	}
	return below
}

// skipped is the verdict of policies in mode skip.
func skipped(policies []*policy) Verdict {
	outcomes := make([]Outcome, 0, len(policies))
	for _, p := range policies {
		o := p.outcome(Skipped)
		o.Reason = PolicySkip
		outcomes = append(outcomes, o)
	}
	return Verdict{Outcome: outcomes[0], Policies: outcomes}
}
