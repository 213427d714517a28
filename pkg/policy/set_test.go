// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/utils/clock"
)

func TestVerify_ReadsKeysOfMatchingPoliciesOnly(t *testing.T) {
	key := newKey()
	c := newCluster(t,
		matching(enforce("a", inSecret("a")), "https://git.example/a"),
		matching(enforce("b", inSecret("b")), "https://git.example/b"))
	c.secrets.putKey("a", key)
	in := key.input()
	in.Source = "https://git.example/a"
	c.expect(in, Passed, "")
	if c.secrets.reads != 1 {
		t.Errorf("Secrets were read %d times, want once", c.secrets.reads)
	}
	in.Source = "https://git.example/b"
	c.expect(in, Failed, KeyUnavailable)
	in.Source = "https://git.example/c"
	c.expect(in, Skipped, NoPolicy)
	if c.secrets.reads != 2 {
		t.Errorf("Secrets were read %d times, want twice", c.secrets.reads)
	}
}

func TestVerify_ReadsKeysOnceForConcurrentCallers(t *testing.T) {
	key := newKey()
	server, ref := newServer(t.Name(), key)
	server.block = make(chan struct{})
	c := newCluster(t, enforce("p", inSecret("key"), inKMS(ref)))
	c.secrets.putKey("key", key)
	var callers sync.WaitGroup
	for i := range 10 {
		callers.Go(func() {
			in := key.input()
			in.Source += fmt.Sprint(i) // another match for each caller
			if verdict, err := c.Verify(t.Context(), namespace, in); err != nil || verdict.Result != Passed {
				t.Errorf("got %+v and error %v, want Passed", verdict, err)
			}
		})
	}
	close(server.block)
	callers.Wait()
	if c.secrets.reads != 1 || server.count() != 1 {
		t.Errorf("the Secret was read %d times, the KMS %d times, want once each", c.secrets.reads, server.count())
	}
}

// The verdict on a resource depends on the policies that match its source, and on
// no other policy.
func TestVerify_KeepsVerdictWhenOtherPolicyChanges(t *testing.T) {
	key := newKey()
	in := key.input()
	ours := func() *v1alpha1.VerificationPolicy {
		return matching(enforce("ours", inline(key)), "https://git.example/.*")
	}
	other := func() *v1alpha1.VerificationPolicy { return matching(enforce("other", inSecret("other")), "other") }
	for name, changed := range map[string][]*v1alpha1.VerificationPolicy{
		"added":   {ours(), other(), matching(enforce("third", inline(newKey())), "third")},
		"changed": {ours(), version(other(), "2")},
		"deleted": {ours()},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, ours(), other())
			c.expect(in, Passed, "")
			c.change(changed...)
			c.verify(in)
			if got := c.verdicts.Len(); got != 1 {
				t.Errorf("the cache has %d verdicts, want the one from before the change", got)
			}
			c.change(version(ours(), "2"))
			c.verify(in)
			if got := c.verdicts.Len(); got != 2 {
				t.Errorf("after a change of the matching policy the cache has %d verdicts, want 2", got)
			}
		})
	}
}

// The verdict of an invalid pattern and the verdict without a match must not be
// confused, although neither depends on keys.
func TestVerify_InvalidPatternIsNotCachedAsNoMatch(t *testing.T) {
	in := newKey().input()
	c := newCluster(t, matching(enforce("p"), "other"))
	c.expect(in, Skipped, NoPolicy)
	c.change(version(matching(enforce("p"), "("), "2"))
	c.expect(in, Failed, PolicyInvalid)
	c.change(version(matching(enforce("p"), "[a-"), "3"))
	if verdict := c.verify(in); !strings.Contains(verdict.Message, "character class") {
		t.Errorf("got message %q, want the message on the new pattern", verdict.Message)
	}
}

func TestSet_BoundsRememberedMatches(t *testing.T) {
	for name, source := range map[string]func(i int) string{
		"short sources": func(i int) string { return fmt.Sprint(i) },
		"long sources":  func(i int) string { return fmt.Sprintf("%d%s", i, strings.Repeat("x", maxMatchSource-10)) },
		"huge sources":  func(i int) string { return fmt.Sprintf("%d%s", i, strings.Repeat("x", maxMatchSource)) },
	} {
		t.Run(name, func(t *testing.T) {
			set := NewSet([]*v1alpha1.VerificationPolicy{enforce("p")}, newCluster(t).keys)
			for i := range 3 * maxMatches {
				if m := set.match(source(i)); len(m.policies) != 1 {
					t.Fatalf("source %d matches %d policies, want 1", i, len(m.policies))
				}
				bytes := 0
				for remembered := range set.matches.bySource {
					bytes += len(remembered)
				}
				if got := len(set.matches.bySource); got > maxMatches || bytes > maxMatchBytes || bytes != set.matches.bytes {
					t.Fatalf("%d matches with %d bytes are remembered (counted: %d), want at most %d with %d bytes",
						got, bytes, set.matches.bytes, maxMatches, maxMatchBytes)
				}
			}
		})
	}
}

func TestSet_RemembersMatch(t *testing.T) {
	set := NewSet([]*v1alpha1.VerificationPolicy{enforce("p")}, newCluster(t).keys)
	first := set.match("source")
	if set.match("source") != first {
		t.Error("the same source was matched twice")
	}
}

// One policy with many KMS that hang takes no longer than one.
func TestVerify_ManyHangingKMSTakeOneTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refs := make([]*v1alpha1.KeyRef, 0, 30)
		for i := range cap(refs) {
			server, ref := newServer(fmt.Sprintf("%s-%d", t.Name(), i), newKey())
			server.block = make(chan struct{})
			defer server.unblock()
			refs = append(refs, inKMS(ref))
		}
		set := NewSet([]*v1alpha1.VerificationPolicy{enforce("p", refs...)}, NewKeys(asTekton(nil, clock.RealClock{})))
		start := time.Now()
		verdict := set.Verify(t.Context(), newKey().input())
		if waited := time.Since(start); verdict.Reason != KeyUnavailable || waited > callTimeout {
			t.Errorf("got %+v after %s, want %s after %s at most", verdict, waited, KeyUnavailable, callTimeout)
		}
	})
}
