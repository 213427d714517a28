// SPDX-License-Identifier: Apache-2.0

package materializing

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// made returns a policy as the controller writes it.
func made(clusterPolicy string, generation int, mode tekton.ModeType, patterns ...string) *tekton.VerificationPolicy {
	name := policy.MaterializedName(clusterPolicy)
	p := &tekton.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: "uid", Labels: map[string]string{v1alpha1.MaterializedLabel: name},
			Annotations: map[string]string{v1alpha1.MaterializedAnnotation: fmt.Sprintf("%s/uid/%d", clusterPolicy, generation)},
		},
		Spec: tekton.VerificationPolicySpec{Mode: mode},
	}
	for _, pattern := range patterns {
		p.Spec.Resources = append(p.Spec.Resources, tekton.ResourcePattern{Pattern: pattern})
	}
	return p
}

func wanted(clusterPolicy string, object *tekton.VerificationPolicy) policy.Materialized {
	m := policy.Materialized{Policy: clusterPolicy, Name: policy.MaterializedName(clusterPolicy), Object: object}
	if object == nil {
		m.Reason, m.Message = v1alpha1.PolicyOverlaps, "another policy comes first"
	}
	return m
}

func TestPlan(t *testing.T) {
	before := made("a", 1, tekton.ModeEnforce, "x", "y")
	own := made("own", 1, tekton.ModeEnforce, "x")
	own.Labels, own.Name = nil, "own"
	squatted := before.DeepCopy()
	squatted.Labels = nil
	forged := made("forged", 1, tekton.ModeWarn, "z")
	owned := before.DeepCopy()
	owned.OwnerReferences = []metav1.OwnerReference{{Name: "gone"}}
	for name, tc := range map[string]struct {
		wanted                []policy.Materialized
		found                 []*tekton.VerificationPolicy
		covered               bool
		widen, shrink, remove int
		synced                bool
	}{
		"new":                      {[]policy.Materialized{wanted("a", before)}, nil, false, 1, 0, 0, true},
		"nothing to do":            {[]policy.Materialized{wanted("a", before)}, []*tekton.VerificationPolicy{before, own}, false, 0, 0, 0, true},
		"more sources":             {[]policy.Materialized{wanted("a", made("a", 2, tekton.ModeEnforce, "x", "y", "z"))}, []*tekton.VerificationPolicy{before}, false, 1, 0, 0, true},
		"fewer sources":            {[]policy.Materialized{wanted("a", made("a", 2, tekton.ModeEnforce, "x"))}, []*tekton.VerificationPolicy{before}, false, 0, 1, 0, true},
		"other sources":            {[]policy.Materialized{wanted("a", made("a", 2, tekton.ModeEnforce, "x", "z"))}, []*tekton.VerificationPolicy{before}, false, 1, 1, 0, true},
		"other mode":               {[]policy.Materialized{wanted("a", made("a", 2, tekton.ModeWarn, "x", "y"))}, []*tekton.VerificationPolicy{before}, false, 1, 0, 0, true},
		"an owner":                 {[]policy.Materialized{wanted("a", before)}, []*tekton.VerificationPolicy{owned}, false, 1, 0, 0, true},
		"squatted name":            {[]policy.Materialized{wanted("a", made("a", 2, tekton.ModeEnforce, "x"))}, []*tekton.VerificationPolicy{squatted}, false, 1, 0, 0, true},
		"no longer selected":       {nil, []*tekton.VerificationPolicy{before, own}, false, 0, 0, 1, false},
		"forged label":             {[]policy.Materialized{wanted("a", before)}, []*tekton.VerificationPolicy{before, forged}, false, 0, 0, 1, true},
		"overlaps, never written":  {[]policy.Materialized{wanted("a", nil)}, nil, true, 0, 0, 0, false},
		"overlaps, nothing covers": {[]policy.Materialized{wanted("a", nil)}, []*tekton.VerificationPolicy{before}, false, 0, 0, 0, false},
		"overlaps, the gate holds": {[]policy.Materialized{wanted("a", nil)}, []*tekton.VerificationPolicy{before}, true, 0, 0, 1, false},
		"overlaps, only warns":     {[]policy.Materialized{wanted("a", nil)}, []*tekton.VerificationPolicy{made("a", 1, tekton.ModeWarn, "x")}, false, 0, 0, 1, false},
		"overlaps, not ours":       {[]policy.Materialized{wanted("a", nil)}, []*tekton.VerificationPolicy{squatted}, true, 0, 0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := planOf(tc.wanted, tc.found, tc.covered)
			if err != nil {
				t.Fatal(err)
			}
			if len(p.widen) != tc.widen || len(p.shrink) != tc.shrink || len(p.remove) != tc.remove {
				t.Errorf("got %d, %d and %d writes, want %d, %d and %d", len(p.widen), len(p.shrink), len(p.remove), tc.widen, tc.shrink, tc.remove)
			}
			if slices.ContainsFunc(p.states, func(s state) bool { return s.synced }) != tc.synced {
				t.Errorf("the states are %+v", p.states)
			}
		})
	}
}

// A replica with an old cache does not bring back what the policy was before.
func TestPlan_NeverGoesBack(t *testing.T) {
	newer := made("a", 3, tekton.ModeEnforce, "x")
	if _, err := planOf([]policy.Materialized{wanted("a", made("a", 2, tekton.ModeEnforce, "y"))}, []*tekton.VerificationPolicy{newer}, true); !errors.Is(err, errOlder) {
		t.Errorf("got error %v", err)
	}
	for _, text := range []string{"", "/", "a/uid/", "a/uid/x", "a/uid/99999999999999999999", "a/other/9"} {
		forged := newer.DeepCopy()
		forged.Annotations[v1alpha1.MaterializedAnnotation] = text
		if p, err := planOf([]policy.Materialized{wanted("a", made("a", 2, tekton.ModeEnforce, "y"))}, []*tekton.VerificationPolicy{forged}, true); err != nil || len(p.shrink)+len(p.widen) == 0 {
			t.Errorf("annotation %q: got error %v, want that the policy is written", text, err)
		}
	}
}

// policies are those of a namespace, by name.
type policies map[string]*tekton.VerificationPolicy

// somePolicies returns three policies at most, with random sources.
func somePolicies(r *rand.Rand, generation int) policies {
	all := policies{}
	for _, name := range clusterPolicies {
		if patterns := slices.DeleteFunc([]string{"1", "2", "3", "4"}, func(string) bool { return r.IntN(2) == 0 }); len(patterns) > 0 {
			all[policy.MaterializedName(name)] = made(name, generation, tekton.ModeEnforce, patterns...)
		}
	}
	return all
}

var clusterPolicies = []string{"a", "b", "c"}

// covered returns the sources that policies match.
func (p policies) covered() map[string]bool {
	sources := map[string]bool{}
	for _, found := range p {
		for _, resource := range found.Spec.Resources {
			sources[resource.Pattern] = true
		}
	}
	return sources
}

// wanted returns the policies as the ClusterVerificationPolicies ask for them.
func (p policies) wanted() (all []policy.Materialized) {
	for _, name := range clusterPolicies {
		if object := p[policy.MaterializedName(name)]; object != nil {
			all = append(all, wanted(name, object))
		}
	}
	return all
}

// Whatever changes, a source that policies cover before and afterwards is covered after each
// write.
func TestPlan_LeavesNoSourceUncovered(t *testing.T) {
	seed := rand.Uint64()               //nolint:gosec // needs no secrecy
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // needs to be repeatable
	writes := 0
	for range 5000 {
		now, after := somePolicies(r, 1), somePolicies(r, 2)
		from, to := now.covered(), after.covered()
		p, err := planOf(after.wanted(), slices.Collect(maps.Values(now)), true)
		if err != nil {
			t.Fatal(err)
		}
		for state := range p.steps(now) {
			writes++
			for source := range from {
				if to[source] && !state.covered()[source] {
					t.Fatalf("source %s is not covered (seed %d)", source, seed)
				}
			}
		}
		if !maps.EqualFunc(now, after, same) {
			t.Fatalf("the plan ends with %v, want %v (seed %d)", now, after, seed)
		}
	}
	if writes < 5000 {
		t.Errorf("only %d writes were looked at", writes)
	}
}

// steps carries out a plan, and yields the state after each write.
func (p *plan) steps(now policies) iter.Seq[policies] {
	return func(yield func(policies) bool) {
		for _, c := range slices.Concat(p.widen, p.shrink) {
			if now[c.after.Name] = c.after; !yield(now) {
				return
			}
		}
		for _, removed := range p.remove {
			if delete(now, removed.Name); !yield(now) {
				return
			}
		}
	}
}
