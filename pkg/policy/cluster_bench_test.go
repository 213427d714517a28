// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"
)

// BenchmarkVerify_WithClusterPolicies verifies one signature in a namespace that 200
// ClusterVerificationPolicies select, of which the last one matches. cold: nothing is
// remembered, as for the first run in the cluster. another source: the policies and keys
// are known. warm: the source is known, too, and the signature is checked. Runs with the same
// content have the remembered verdict of a Verifier (remembered).
func BenchmarkVerify_WithClusterPolicies(b *testing.B) {
	const count = 200
	key := newKey()
	policies := make([]ClusterPolicy, 0, count)
	for i := range count {
		policies = append(policies, override(fmt.Sprintf("p-%03d", i), int32(i), Enforce, fmt.Sprintf("https://git.example/%d/*", i), key))
	}
	sources := asTekton(nil, testclock.NewFakeClock(time.Unix(1e9, 0)))
	in := key.input()
	in.Source = fmt.Sprintf("https://git.example/%d/a", count-1)
	expect := func(b *testing.B, v Verdict) {
		b.Helper()
		if v.Result != Passed || v.Rank == nil {
			b.Fatalf("got %+v", v)
		}
	}
	set := func(c *Cluster) *Set {
		return NewSet(nil, NewKeys(sources)).With(must(c.Ranks(namespace, nil, noRing)))
	}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			expect(b, set(must(NewCluster(policies))).Verify(b.Context(), in))
		}
	})
	b.Run("another source", func(b *testing.B) {
		s := set(must(NewCluster(policies)))
		for i := 0; b.Loop(); i++ {
			next := in
			next.Source += fmt.Sprint(i)
			expect(b, s.Verify(b.Context(), next))
		}
	})
	b.Run("warm", func(b *testing.B) {
		s := set(must(NewCluster(policies)))
		for b.Loop() {
			expect(b, s.Verify(b.Context(), in))
		}
	})
	b.Run("remembered", func(b *testing.B) {
		verifier := New(&policyStore{}, &inCluster{Cluster: must(NewCluster(policies))}, sources)
		for b.Loop() {
			expect(b, must(verifier.Verify(b.Context(), namespace, in)))
		}
	})
}
