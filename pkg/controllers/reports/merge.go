// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"maps"
	"slices"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

const (
	// maxResults bounds the results of one Report. With maxResult, it also bounds the size:
	// etcd takes requests of up to 1.5 MiB.
	maxResults = 500
	// maxShards bounds the Reports of one namespace and kind. Then the oldest results leave.
	maxShards = 4

	retentionDays = 30
	// retention is how long the last verdict on a resource is reported.
	retention = retentionDays * 24 * time.Hour
	// maxSkew is how far the clock of another replica may be ahead.
	maxSkew = time.Hour
)

// content is what the shards for one namespace and kind say. Results stay in their shard, so
// that a change writes few shards, and none is lost if the process ends between two writes.
type content struct {
	shards [][]entry
	passed passes // kept in the first shard
}

// contentOf reads the shards, without what is too old or cannot be from this controller.
func contentOf(shards []*openreports.Report, now time.Time) *content {
	c, seen := &content{passed: passes{}}, map[rule]bool{}
	for i, shard := range shards {
		if i == 0 {
			c.passed = decodePasses(shard.Annotations[v1alpha1.ReportPassedAnnotation], now)
		}
		kept := make([]entry, 0, min(len(shard.Results), maxResults))
		for _, result := range shard.Results {
			if e, ok := newEntry(result, now); ok && !seen[e.rule] && len(kept) < maxResults {
				seen[e.rule] = true
				kept = append(kept, e)
			}
		}
		c.shards = append(c.shards, kept)
	}
	return c
}

// add replaces what is said about the resources of verdicts, unless the content is newer.
func (c *content) add(verdicts map[resourceID]verdict) {
	verdicts = maps.Clone(verdicts)
	for _, e := range slices.Concat(c.shards...) {
		if e.at().After(verdicts[e.rule.of].at) {
			delete(verdicts, e.rule.of)
		}
	}
	for i, entries := range c.shards {
		c.shards[i] = slices.DeleteFunc(entries, func(e entry) bool {
			_, replaced := verdicts[e.rule.of]
			return replaced
		})
	}
	for _, id := range slices.SortedFunc(maps.Keys(verdicts), resourceID.compare) {
		v := verdicts[id]
		if delete(c.passed, id); v.passed > 0 {
			c.passed[id] = passed{dayOf(v.at), v.passed}
		}
		for _, e := range v.entries {
			c.put(e)
		}
	}
	c.passed.limit()
	for len(c.shards) > 1 && len(c.shards[len(c.shards)-1]) == 0 {
		c.shards = c.shards[:len(c.shards)-1]
	}
	if len(c.shards) == 0 {
		c.shards = make([][]entry, 1) // for the resources that passed
	}
}

// put adds a result to the first shard that has room. If none has, the oldest result leaves.
func (c *content) put(added entry) {
	i := slices.IndexFunc(c.shards, func(entries []entry) bool { return len(entries) < maxResults })
	switch {
	case i >= 0:
		c.shards[i] = append(c.shards[i], added)
	case len(c.shards) < maxShards:
		c.shards = append(c.shards, []entry{added})
	default:
		*c.oldest() = added
	}
}

func (c *content) oldest() *entry {
	oldest := &c.shards[0][0]
	for _, entries := range c.shards {
		for i := range entries {
			if entries[i].at().Before(oldest.at()) {
				oldest = &entries[i]
			}
		}
	}
	return oldest
}

// summary counts the results of one shard. The resources that passed count in the first one,
// so that the sum over the shards is right.
func (c *content) summary(shard int) (s openreports.ReportSummary) {
	if shard == 0 {
		s.Pass = c.passed.count()
	}
	for _, e := range c.shards[shard] {
		switch e.result.Result {
		case fail:
			s.Fail++
		case warn:
			s.Warn++
		case failure:
			s.Error++
		case skip:
			s.Skip++
		}
	}
	return s
}

func (c *content) results(shard int) []openreports.ReportResult {
	results := make([]openreports.ReportResult, 0, len(c.shards[shard]))
	for _, e := range c.shards[shard] {
		results = append(results, e.result)
	}
	return results
}
