// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// Set holds the policies of one namespace. It reads no keys before they are
// needed: the keys of a policy are read when the policy matches a source for the
// first time, and again when they expire. A Set is safe for concurrent use.
type Set struct {
	keys     *Keys
	policies []*policy // of the namespace itself: those to enforce first, then by name
	ranks    Ranks     // of ClusterVerificationPolicies
	matches  matchCache
}

// policy is one policy of a Set. Its object has the authorities; that of a
// ClusterVerificationPolicy has nothing else.
type policy struct {
	object   *tekton.VerificationPolicy
	patterns []pattern
	rank     *Rank // nil for a VerificationPolicy
	// materialized: the VerificationPolicy stands for a ClusterVerificationPolicy of the Set.
	materialized bool
	mode         Mode
	revision     func() Revision // computed once

	keys    atomic.Pointer[policyKeys] // nil before the first match
	loading chan struct{}              // full while a caller loads the keys
}

// NewSet returns the Set of the policies of one namespace. It does no I/O.
func NewSet(policies []*tekton.VerificationPolicy, keys *Keys) *Set {
	s := &Set{keys: keys, policies: make([]*policy, 0, len(policies))}
	for _, object := range policies {
		s.policies = append(s.policies, &policy{
			object: object, patterns: patternsOf(object), mode: modeOf(object), loading: make(chan struct{}, 1),
			revision: sync.OnceValue(func() Revision { return revisionOf(object) }),
		})
	}
	slices.SortStableFunc(s.policies, byModeAndName)
	return s
}

// With returns the Set, which also has the ClusterVerificationPolicies of the namespace. Call
// it before the Set is used.
func (s *Set) With(ranks Ranks) *Set {
	s.ranks = ranks
	for _, p := range s.policies {
		p.materialized = ranks.materialized[p.object.Name] && p.object.Labels[v1alpha1.MaterializedLabel] == p.object.Name
	}
	return s
}

// byModeAndName orders the policies to enforce first, then by name.
func byModeAndName(a, b *policy) int {
	return cmp.Or(cmp.Compare(a.mode, b.mode), cmp.Compare(a.object.Name, b.object.Name))
}

func patternsOf(p *tekton.VerificationPolicy) []pattern {
	patterns := make([]pattern, 0, len(p.Spec.Resources))
	for _, resource := range p.Spec.Resources {
		patterns = append(patterns, pattern{text: resource.Pattern})
	}
	return patterns
}

// modeOf returns Enforce for every mode but warn, as Tekton does.
func modeOf(p *tekton.VerificationPolicy) Mode {
	if p.Spec.Mode == tekton.ModeWarn {
		return Warn
	}
	return Enforce
}

// match returns the policies that match the source, and remembers them.
func (s *Set) match(source string) *match {
	if m := s.matches.get(source); m != nil {
		return m
	}
	text := normalized(source)
	m := s.ranks.over(newMatch(s.policies, text), text)
	s.matches.put(source, m)
	return m
}

// currentKeys returns the keys of the policy. It reads them unless they were read
// before with the same access and have not expired.
func (p *policy) currentKeys(ctx context.Context, keys *Keys) *policyKeys {
	if current := p.rememberedKeys(keys); current != nil {
		return current
	}
	var current *policyKeys
	load := func(ctx context.Context) (err error) {
		current, err = p.load(ctx, keys)
		return err
	}
	var err error
	if p.namesKMS() { // to wait for a caller that waits for a KMS is to wait for the KMS
		err = keys.limits.waits.do(ctx, p.object.Namespace, load)
	} else {
		err = load(ctx)
	}
	if current == nil {
		current = &policyKeys{lifetime: lifetime{expires: keys.clock.Now()}}
		current.unusable(p.object, fmt.Errorf("%w: %w", errUnavailable, err))
	}
	return current
}

// load reads the keys, unless another caller has read them meanwhile. The error says
// why there are no keys, or which keys of a KMS are not among them.
func (p *policy) load(ctx context.Context, keys *Keys) (*policyKeys, error) {
	select {
	case p.loading <- struct{}{}: // so that concurrent callers read the keys once
		defer func() { <-p.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if current := p.rememberedKeys(keys); current != nil {
		return current, nil
	}
	loaded := keys.load(ctx, p.object)
	if ctx.Err() == nil { // an error after the end of the context says nothing about the keys
		p.keys.Store(loaded)
	}
	return loaded, loaded.unanswered()
}

// rememberedKeys returns the keys that were read before, or nil.
func (p *policy) rememberedKeys(keys *Keys) *policyKeys {
	current := p.keys.Load()
	if current == nil || keys.expired(current.expires) || current.access != keys.access() {
		return nil
	}
	return current
}

func (p *policy) namesKMS() bool {
	return slices.ContainsFunc(p.object.Spec.Authorities, func(a tekton.Authority) bool { return a.Key != nil && a.Key.KMS != "" })
}

// match holds the policies that match one source, and decide.
type match struct {
	policies []*policy
	// invalid is the outcome of a policy with an invalid pattern. It decides
	// alone, see newMatch.
	invalid *Outcome

	// own are the policies of the namespace itself if ClusterVerificationPolicies decide,
	// and otherwise nil. Tekton knows only these.
	own *match
	// shadowed is what would decide if the policies were not in mode skip; otherwise nil.
	shadowed *match

	keys atomic.Pointer[matchKeys]
}

// newMatch matches the policies with a normalized source. As in Tekton, a pattern
// that is not a regular expression fails the verification, in every mode, unless
// an earlier pattern of the same policy matches. So do policies beyond the limits.
func newMatch(policies []*policy, source string) *match {
	m, limits := &match{}, &limits{}
	for _, p := range policies {
		matches, err := p.matches(source, limits)
		if err != nil {
			outcome := p.failed(PolicyInvalid, err.Error())
			outcome.Mode = Enforce
			return &match{policies: []*policy{p}, invalid: &outcome}
		}
		if matches {
			m.policies = append(m.policies, p)
		}
	}
	return m
}

func (p *policy) matches(source string, limits *limits) (bool, error) {
	if err := limits.addPolicy(source); err != nil {
		return false, err
	}
	for _, pattern := range p.patterns {
		if err := limits.addPattern(); err != nil {
			return false, err
		}
		if matches, err := pattern.matches(source, limits); err != nil {
			return false, err
		} else if matches {
			return true, limits.addAuthorities(len(p.object.Spec.Authorities))
		}
	}
	return false, nil
}

// currentKeys returns the keys of the matching policies.
func (m *match) currentKeys(ctx context.Context, keys *Keys) *matchKeys {
	if current := m.keys.Load(); current != nil && !keys.expired(current.expires) && current.access == keys.access() {
		return current
	}
	loaded := loadMatchKeys(ctx, m, keys)
	if ctx.Err() == nil {
		m.keys.Store(loaded)
	}
	return loaded
}

// Bounds of the matches that one Set remembers. Sources come from users: without
// bounds they could fill the memory.
const (
	maxMatches     = 512
	maxMatchBytes  = 64 << 10 // of all sources
	maxMatchSource = 4 << 10  // of one source
)

// matchCache remembers the policies that match a source. It forgets all sources
// when it is full: a new match costs less than a signature check.
type matchCache struct {
	mu       sync.RWMutex
	bySource map[string]*match
	bytes    int
}

func (c *matchCache) get(source string) *match {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.bySource[source]
}

func (c *matchCache) put(source string, m *match) {
	if len(source) > maxMatchSource {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.bySource[source]; known {
		return
	}
	if c.bySource == nil || len(c.bySource) >= maxMatches || c.bytes+len(source) > maxMatchBytes {
		c.bySource, c.bytes = map[string]*match{}, 0
	}
	c.bySource[source] = m
	c.bytes += len(source)
}
