// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
)

// version sets the resourceVersion, as a change in the cluster does.
func version(p *v1alpha1.VerificationPolicy, resourceVersion string) *v1alpha1.VerificationPolicy {
	p.ResourceVersion = resourceVersion
	return p
}

func TestVerify_FollowsChangedPolicies(t *testing.T) {
	ours, theirs := newKey(), newKey()
	for name, tc := range map[string]struct {
		after  []*v1alpha1.VerificationPolicy
		want   Result
		reason Reason
	}{
		"another key":     {[]*v1alpha1.VerificationPolicy{version(enforce("p", inline(theirs)), "2")}, Failed, SignatureInvalid},
		"another pattern": {[]*v1alpha1.VerificationPolicy{version(matching(enforce("p", inline(ours)), "other"), "2")}, Skipped, NoPolicy},
		"deleted":         {nil, Skipped, NoPolicy},
		"policy added":    {[]*v1alpha1.VerificationPolicy{enforce("p", inline(ours)), enforce("q", inline(theirs))}, Failed, SignatureInvalid},
		"recreated with the same name": {[]*v1alpha1.VerificationPolicy{func() *v1alpha1.VerificationPolicy {
			p := matching(enforce("p", inline(ours)), "other")
			p.UID = "another"
			return p
		}()}, Skipped, NoPolicy},
		"no change": {[]*v1alpha1.VerificationPolicy{enforce("p", inline(ours))}, Passed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := enforce("p", inline(ours))
			c := newCluster(t, before)
			s := ours.input()
			c.expect(s, Passed, "")
			c.change(tc.after...)
			c.expect(s, tc.want, tc.reason)
			c.change(version(before, "3"))
			c.expect(s, Passed, "")
		})
	}
}

func TestVerify_FollowsChangedMode(t *testing.T) {
	c := newCluster(t, enforce("p", inline(newKey())))
	s := newKey().input()
	if got := c.verify(s); got.Mode != Enforce {
		t.Errorf("got %+v", got)
	}
	c.change(version(warn("p", inline(newKey())), "2"))
	if got := c.verify(s); got.Mode != Warn {
		t.Errorf("got %+v", got)
	}
}

func TestVerify_FollowsChangedInput(t *testing.T) {
	key := newKey()
	good := key.input()
	c := newCluster(t, matching(enforce("p", inline(key)), good.Source))
	c.expect(good, Passed, "")
	for name, tc := range map[string]struct {
		change func(*Input)
		want   Result
		reason Reason
	}{
		"signature":        {func(s *Input) { s.Signature = newKey().input().Signature }, Failed, SignatureInvalid},
		"no signature":     {func(s *Input) { s.Signature = "" }, Failed, Unsigned},
		"checksum":         {func(s *Input) { s.Checksum = append([]byte{8}, s.Checksum[1:]...) }, Failed, SignatureInvalid},
		"shorter checksum": {func(s *Input) { s.Checksum = s.Checksum[1:] }, Failed, SignatureInvalid},
		"longer checksum":  {func(s *Input) { s.Checksum = append([]byte{}, append(s.Checksum, 0)...) }, Failed, SignatureInvalid},
		"source":           {func(s *Input) { s.Source += "/other" }, Skipped, NoPolicy},
	} {
		t.Run(name, func(*testing.T) {
			s := good
			tc.change(&s)
			c.expect(s, tc.want, tc.reason)
			c.expect(good, Passed, "")
		})
	}
	unmatched := good
	unmatched.Source = "other"
	for _, mode := range []Mode{Skip, Warn, Enforce} {
		unmatched.NoMatch = mode
		if got := c.verify(unmatched); got.Mode != mode {
			t.Errorf("no match in mode %s: got %+v", mode, got)
		}
	}
}

// A policy changes while the Verifier lists the policies: the next verification
// uses the new policy.
func TestVerify_SeesChangeDuringList(t *testing.T) {
	ours, theirs := newKey(), newKey()
	for name, changed := range map[string]string{"this namespace": namespace, "another namespace": "elsewhere"} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, enforce("p", inline(ours)))
			c.policies.onList = func() {
				c.policies.onList = nil
				c.policies.set(version(enforce("p", inline(theirs)), "2"))
				c.PoliciesChanged(changed)
			}
			c.verify(ours.input()) // with the old policy or the new one
			c.expect(ours.input(), Failed, SignatureInvalid)
			c.expect(theirs.input(), Passed, "")
			if c.policies.lists != 2 {
				t.Errorf("policies were listed %d times, want twice", c.policies.lists)
			}
		})
	}
}

func TestVerify_ListsPoliciesOnceWithoutChange(t *testing.T) {
	key := newKey()
	c := newCluster(t, enforce("p", inline(key)))
	for range 100 {
		c.expect(key.input(), Passed, "")
	}
	c.PoliciesChanged("elsewhere")
	c.expect(key.input(), Passed, "")
	if c.policies.lists != 1 {
		t.Errorf("policies were listed %d times, want once", c.policies.lists)
	}
}

func TestVerify_ReturnsErrorOfList(t *testing.T) {
	outage := errors.New("outage")
	key := newKey()
	c := newCluster(t, enforce("p", inline(key)))
	c.policies.err = outage
	if verdict, err := c.Verify(t.Context(), namespace, key.input()); !errors.Is(err, outage) {
		t.Errorf("got %+v and %v", verdict, err)
	}
	c.policies.err = nil
	c.expect(key.input(), Passed, "")
}

// Useful with the race detector. All policies that exist during the test trust the
// same key.
func TestVerify_ConcurrentUse(t *testing.T) {
	ours, theirs := newKey(), newKey()
	server, ref := newServer(t.Name(), ours)
	c := newCluster(t, enforce("p", inSecret("key"), inKMS(ref)))
	c.secrets.putKey("key", ours)
	good, bad := ours.input(), newKey().input()
	var workers sync.WaitGroup
	for worker := range 8 {
		workers.Go(func() {
			for i := range 200 {
				switch worker {
				case 0:
					c.change(version(enforce("p", inSecret("key"), inKMS(ref)), fmt.Sprint(i)))
				case 1:
					c.clock.Step(MaxFailureAge)
				case 2:
					server.rotate([]keyPair{ours, theirs}[i%2])
				}
				if verdict, err := c.Verify(t.Context(), namespace, good); err != nil || verdict.Result != Passed {
					t.Errorf("good: got %+v and %v", verdict, err)
				}
				if verdict, err := c.Verify(t.Context(), namespace, bad); err != nil || verdict.Reason != SignatureInvalid {
					t.Errorf("bad: got %+v and %v", verdict, err)
				}
			}
		})
	}
	workers.Wait()
}

// The caller is told of each verdict, and of each key that is wanted, whether it was cached.
func TestVerify_TellsWhatWasCached(t *testing.T) {
	ours := newKey()
	c := newCluster(t, enforce("p", inSecret("ours")))
	c.secrets.putKey("ours", ours)
	sources := asTekton(c.secrets, c.clock)
	var told []string
	sources.Judged = func(_ context.Context, result Result, cached bool, _ time.Duration) {
		told = append(told, fmt.Sprint("verdict ", result, " ", cached))
	}
	sources.KeyWanted = func(_ context.Context, cached bool) { told = append(told, fmt.Sprint("key ", cached)) }
	c.Verifier = New(c.policies, nil, sources)
	input := ours.input()
	c.verify(input)
	c.verify(input)
	c.PoliciesChanged(namespace)
	c.verify(newKey().input())
	want := []string{"key false", "verdict PASSED false", "verdict PASSED true", "key true", "verdict FAILED false"}
	if !slices.Equal(told, want) {
		t.Errorf("got %q, want %q", told, want)
	}
	if verdicts, keys := c.Cached(); verdicts != 2 || keys != 1 {
		t.Errorf("got %d verdicts and %d keys, want 2 and 1", verdicts, keys)
	}
}
