// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
)

// numbered returns the input with checksum number i.
func numbered(s Input, i int) Input {
	s.Checksum = binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i)) //nolint:gosec // not negative
	return s
}

func TestVerify_CachesAtMostMaxVerdicts(t *testing.T) {
	c := newCluster(t) // without policies: verification takes no time
	s := Input{Source: "s", NoMatch: Skip}
	for i := range MaxVerdicts + 1000 {
		c.verify(numbered(s, i))
	}
	if got := c.verdicts.Len(); got != MaxVerdicts {
		t.Errorf("%d entries, want %d", got, MaxVerdicts)
	}
	if !c.remembers(numbered(s, MaxVerdicts+999)) || c.remembers(numbered(s, 0)) {
		t.Error("want the newest verdict in the cache, and not the oldest")
	}
}

func TestVerify_CachesAtMostMaxVerdictBytes(t *testing.T) {
	c := newCluster(t)
	s := Input{Source: strings.Repeat("s", maxKeyStrings), NoMatch: Skip}
	const count = 2 * maxVerdictBytes / maxKeyStrings
	for i := range count {
		c.verify(numbered(s, i))
	}
	bytes := 0
	for range c.verdicts.Items() {
		bytes += maxKeyStrings
	}
	if bytes > maxVerdictBytes || bytes < maxVerdictBytes/2 {
		t.Errorf("%d bytes in %d entries, want nearly %d bytes", bytes, c.verdicts.Len(), maxVerdictBytes)
	}
	if !c.remembers(numbered(s, count-1)) || c.remembers(numbered(s, 0)) {
		t.Error("want the newest verdict in the cache, and not the oldest")
	}
}

func TestSizeOf_GrowsWithPoliciesAndMessages(t *testing.T) {
	few, many := Verdict{Policies: make([]Outcome, 1)}, Verdict{Policies: make([]Outcome, 1000)}
	if got := sizeOf(verdictKey{}, many); got < 100*sizeOf(verdictKey{}, few) {
		t.Errorf("a verdict of 1000 policies has size %d, want at least 100 times that of one policy", got)
	}
	long := Verdict{Policies: []Outcome{{Message: strings.Repeat("m", 10_000)}}}
	if got := sizeOf(verdictKey{}, long); got < 10_000 {
		t.Errorf("a verdict with a message of 10000 bytes has size %d, want at least 10000", got)
	}
}

// Verdicts on resources that are not verified any more leave the cache first.
func TestVerify_EvictsLeastRecentlyUsedVerdict(t *testing.T) {
	c := newCluster(t)
	s := Input{Source: "s", NoMatch: Skip}
	for i := range MaxVerdicts {
		c.verify(numbered(s, i))
	}
	c.verify(numbered(s, 0))
	c.verify(numbered(s, MaxVerdicts))
	if !c.remembers(numbered(s, 0)) || c.remembers(numbered(s, 1)) {
		t.Error("the evicted verdict is not the least recently used one")
	}
}

func TestVerify_DoesNotCacheLongInputs(t *testing.T) {
	key := newKey()
	c := newCluster(t, enforce("p", inline(key)))
	for name, tc := range map[string]struct {
		change func(*Input)
		reason Reason
	}{
		"signature": {func(s *Input) { s.Signature = strings.Repeat("A", maxKeyStrings+4) }, SignatureInvalid},
		"source":    {func(s *Input) { s.Source = strings.Repeat("a", maxKeyStrings) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := key.input()
			tc.change(&s)
			if got := c.verify(s); got.Reason != tc.reason {
				t.Errorf("got %+v", got)
			}
			if c.verdicts.Len() != 0 {
				t.Error("the verdict was cached")
			}
		})
	}
	c.verify(key.input())
	if c.verdicts.Len() != 1 {
		t.Error("the verdict on a short input was not cached")
	}
}

func TestVerify_CachesOnlyPassedForLong(t *testing.T) {
	key := newKey()
	for name, tc := range map[string]struct {
		policy *v1alpha1.VerificationPolicy
		want   time.Duration
	}{
		"passed":  {enforce("p", inline(key)), passedLife},
		"failed":  {enforce("p", inline(newKey())), otherLife},
		"skipped": {matching(enforce("p", inline(key)), "other"), otherLife},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, tc.policy)
			c.verify(key.input())
			for _, item := range c.verdicts.Items() {
				if item.TTL() != tc.want {
					t.Errorf("the verdict is cached for %s, want %s", item.TTL(), tc.want)
				}
			}
		})
	}
	if otherLife > time.Minute {
		t.Errorf("a verdict that is not Passed is cached for %s, want at most a minute", otherLife)
	}
}

func TestVerify_CacheHitDoesNotExtendLife(t *testing.T) {
	c := newCluster(t)
	s := numbered(Input{NoMatch: Skip}, 0)
	ends := map[time.Time]bool{}
	for range 1000 {
		c.verify(s)
		for _, item := range c.verdicts.Items() {
			ends[item.ExpiresAt()] = true
		}
	}
	if len(ends) != 1 {
		t.Errorf("1000 hits moved the end of the entry's life %d times, want 0", len(ends)-1)
	}
}

// remembers reports whether the verdict on an input is cached. It does not count as
// a use of the entry.
func (c *cluster) remembers(s Input) bool {
	set := c.sets.Get(namespace, ttlcache.WithDisableTouchOnHit[string, *Set]()).Value()
	key, cacheable := newVerdictKey(set.match(s.Source).currentKeys(c.t.Context(), set.keys), s)
	return cacheable && c.verdicts.Has(key)
}
