package policy

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
)

// numbered are inputs that differ in their checksum.
func numbered(s Input, i int) Input {
	s.Checksum = binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i)) //nolint:gosec // not negative
	return s
}

func TestCacheIsBoundedInEntries(t *testing.T) {
	c := newCluster(t) // no policy: nothing to verify takes time
	s := Input{Source: "s", NoMatch: Skip}
	for i := range MaxVerdicts + 1000 {
		c.verify(numbered(s, i))
	}
	if got := c.verdicts.Len(); got != MaxVerdicts {
		t.Errorf("%d entries, want %d", got, MaxVerdicts)
	}
	if !c.remembers(numbered(s, MaxVerdicts+999)) || c.remembers(numbered(s, 0)) {
		t.Error("the newest is gone, or the oldest is not")
	}
}

func TestCacheIsBoundedInBytes(t *testing.T) {
	c := newCluster(t)
	s := Input{Source: strings.Repeat("s", maxQuestion), NoMatch: Skip}
	const count = 2 * maxVerdictBytes / maxQuestion
	for i := range count {
		c.verify(numbered(s, i))
	}
	bytes := 0
	for range c.verdicts.Items() {
		bytes += maxQuestion
	}
	if bytes > maxVerdictBytes || bytes < maxVerdictBytes/2 {
		t.Errorf("%d bytes in %d entries, want nearly %d bytes", bytes, c.verdicts.Len(), maxVerdictBytes)
	}
	if !c.remembers(numbered(s, count-1)) || c.remembers(numbered(s, 0)) {
		t.Error("the newest is gone, or the oldest is not")
	}
}

func TestManyPoliciesCountInBytes(t *testing.T) {
	few, many := Verdict{Policies: make([]Outcome, 1)}, Verdict{Policies: make([]Outcome, 1000)}
	if got := cost(question{}, many); got < 100*cost(question{}, few) {
		t.Errorf("a thousand policies cost %d", got)
	}
	chatty := Verdict{Policies: []Outcome{{Message: strings.Repeat("m", 10_000)}}}
	if got := cost(question{}, chatty); got < 10_000 {
		t.Errorf("a long message costs %d", got)
	}
}

// What is used stays, so that resources that nobody asks for any more go first.
func TestWhatIsUsedStays(t *testing.T) {
	c := newCluster(t)
	s := Input{Source: "s", NoMatch: Skip}
	for i := range MaxVerdicts {
		c.verify(numbered(s, i))
	}
	c.verify(numbered(s, 0))
	c.verify(numbered(s, MaxVerdicts))
	if !c.remembers(numbered(s, 0)) || c.remembers(numbered(s, 1)) {
		t.Error("the least recently used is not the one that went")
	}
}

func TestLongQuestionsAreAnsweredAndNotKept(t *testing.T) {
	key := newKey()
	c := newCluster(t, enforce("p", inline(key)))
	for name, tc := range map[string]struct {
		change func(*Input)
		reason Reason
	}{
		"signature": {func(s *Input) { s.Signature = strings.Repeat("A", maxQuestion+4) }, SignatureInvalid},
		"source":    {func(s *Input) { s.Source = strings.Repeat("a", maxQuestion) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := key.input()
			tc.change(&s)
			if got := c.verify(s); got.Reason != tc.reason {
				t.Errorf("got %+v", got)
			}
			if c.verdicts.Len() != 0 {
				t.Error("it was kept")
			}
		})
	}
	c.verify(key.input())
	if c.verdicts.Len() != 1 {
		t.Error("what is not long was not kept")
	}
}

func TestOnlyPassedLivesLong(t *testing.T) {
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
					t.Errorf("it lives for %s, want %s", item.TTL(), tc.want)
				}
			}
		})
	}
	if otherLife > time.Minute {
		t.Errorf("what did not pass lives for %s", otherLife)
	}
}

// Use must not make a verdict live on: its end is set when it is made.
func TestLifeDoesNotGrowWithUse(t *testing.T) {
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
		t.Errorf("a thousand uses have moved its end %d times", len(ends)-1)
	}
}

// remembers does not count as a use.
func (c *cluster) remembers(s Input) bool {
	trust := c.trusts.Get(namespace, ttlcache.WithDisableTouchOnHit[string, *Set]())
	q, cacheable := ask(trust.Value(), s)
	return cacheable && c.verdicts.Has(q)
}
