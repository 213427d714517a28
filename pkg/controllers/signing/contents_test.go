// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func sum(content string) []byte {
	all := sums(content)
	return all.Content()
}

func sums(content string) resource.Checksums {
	return resource.Checksums{sha256.Sum256([]byte(content))}
}

// settled returns contents of a replica that has looked after the resources for
// long.
func settled() (*contents, *clocktesting.FakeClock) {
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	c := newContents(clock)
	clock.Step(takeover + time.Second)
	return c, clock
}

func TestContents_ReportOnlyOtherSignedContent(t *testing.T) {
	for name, tc := range map[string]struct {
		before func(*contents, *clocktesting.FakeClock)
		want   bool
	}{
		"unknown resource":  {func(*contents, *clocktesting.FakeClock) {}, false},
		"same content":      {func(c *contents, _ *clocktesting.FakeClock) { c.wrote("ns/t", sum("a")) }, false},
		"other content":     {func(c *contents, _ *clocktesting.FakeClock) { c.wrote("ns/t", sum("b")) }, true},
		"other found":       {func(c *contents, _ *clocktesting.FakeClock) { c.found("ns/t", sum("b")) }, true},
		"another resource":  {func(c *contents, _ *clocktesting.FakeClock) { c.wrote("ns/other", sum("b")) }, false},
		"not signed by now": {func(c *contents, _ *clocktesting.FakeClock) { c.wrote("ns/t", sum("b")); c.forget("ns/t") }, false},
		"created again": {func(c *contents, _ *clocktesting.FakeClock) {
			c.wrote("ns/t", sum("b"))
			c.gone("ns/t")
		}, true},
		"created again as it was": {func(c *contents, _ *clocktesting.FakeClock) {
			c.wrote("ns/t", sum("a"))
			c.gone("ns/t")
		}, false},
		"another replica led": {func(c *contents, clock *clocktesting.FakeClock) {
			c.wrote("ns/t", sum("b"))
			c.restart()
			clock.Step(takeover + time.Second)
		}, false},
		"another replica may have signed": {func(c *contents, _ *clocktesting.FakeClock) {
			c.restart()
			c.found("ns/t", sum("b"))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, clock := settled()
			tc.before(c, clock)
			if got := c.found("ns/t", sum("a")); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if c.found("ns/t", sum("a")) {
				t.Error("the same content is reported twice")
			}
		})
	}
}

func TestContents_NeedLittleMemory(t *testing.T) {
	const resources, limit = 100_000, 15 << 20
	c, _ := settled()
	before := heap()
	for i := range resources {
		c.wrote(fmt.Sprintf("some-namespace-%d/some-resource-%d", i%100, i), sum("a"))
	}
	if after := heap(); after > before+limit {
		t.Errorf("%d resources take %d bytes, want at most %d", resources, after-before, limit)
	}
	for i := range resources {
		c.gone(fmt.Sprintf("some-namespace-%d/some-resource-%d", i%100, i))
	}
	if len(c.signed) != 0 || c.deleted.Len() != maxDeleted {
		t.Errorf("%d resources and %d deleted ones are remembered, want 0 and %d", len(c.signed), c.deleted.Len(), maxDeleted)
	}
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
