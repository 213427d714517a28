// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func TestCluster_FindsConflicts(t *testing.T) {
	k, a := newKey(), newKey()
	everything := override("all", 100, Enforce, "*", k)
	acme := func(priority int32, keys ...keyPair) ClusterPolicy {
		return override("acme", priority, Enforce, gh, keys...)
	}
	ring := override("ring", 100, Enforce, "*")
	ring.Spec.Authorities = []v1alpha1.PolicyAuthority{{Name: "ours", KeyRing: v1alpha1.KeyRingActive, HashAlgorithm: "sha256"}}
	elsewhere := acme(100, a)
	elsewhere.Spec.NamespaceSelector.MatchLabels = map[string]string{"other": "label"}
	otherHash := acme(100, k)
	otherHash.Spec.Authorities[0].HashAlgorithm = "sha512"
	own := func(p *tekton.VerificationPolicy, pattern string) []*tekton.VerificationPolicy {
		return []*tekton.VerificationPolicy{matching(p, pattern)}
	}
	for name, tc := range map[string]struct {
		cluster []ClusterPolicy
		own     []*tekton.VerificationPolicy
		want    map[string]string // reasons, by policy
	}{
		"3":                       {[]ClusterPolicy{everything}, own(enforce("own", inline(a)), ".*"), map[string]string{"all": v1alpha1.PolicyConflicting}},
		"3, with a KeyRing":       {[]ClusterPolicy{ring}, own(enforce("own", inline(a)), ".*"), map[string]string{"ring": v1alpha1.PolicyConflicting}},
		"3, a key in common":      {[]ClusterPolicy{everything}, own(enforce("own", inline(a), inline(k)), ".*"), nil},
		"3, own warns":            {[]ClusterPolicy{everything}, own(warn("own", inline(a)), ".*"), nil},
		"3, a key in a Secret":    {[]ClusterPolicy{everything}, own(enforce("own", inSecret("s")), ".*"), nil},
		"own for other sources":   {[]ClusterPolicy{acme(1, k)}, own(enforce("own", inline(a)), "https://b/.*"), nil},
		"own for one of them":     {[]ClusterPolicy{acme(1, k)}, own(enforce("own", inline(a)), "https://github.com/acme/build"), map[string]string{"acme": v1alpha1.PolicyConflicting}},
		"own, regular expression": {[]ClusterPolicy{acme(1, k)}, own(enforce("own", inline(a)), `^https://github\.com/(?s:.*)$`), map[string]string{"acme": v1alpha1.PolicyConflicting}},
		"Default":                 {[]ClusterPolicy{fallback(k)}, own(enforce("own", inline(a)), ".*"), nil},
		"7":                       {[]ClusterPolicy{acme(10, a), everything}, nil, nil},
		"8":                       {[]ClusterPolicy{acme(100, a), everything}, nil, map[string]string{"acme": v1alpha1.PolicyConflicting, "all": v1alpha1.PolicyConflicting}},
		"8, other hash":           {[]ClusterPolicy{otherHash, everything}, nil, map[string]string{"acme": v1alpha1.PolicyConflicting, "all": v1alpha1.PolicyConflicting}},
		"8, other namespaces":     {[]ClusterPolicy{elsewhere, everything}, nil, nil},
		"9":                       {[]ClusterPolicy{override("acme", 100, Skip, gh), everything}, nil, nil},
		"16":                      {[]ClusterPolicy{everything}, own(enforce("own", inline(k)), `x\$`), map[string]string{"all": v1alpha1.PolicyNamespaceBroken}},
		"16, Default":             {[]ClusterPolicy{fallback(k)}, own(warn("own", inline(k)), `(`), map[string]string{"base": v1alpha1.PolicyNamespaceBroken}},
		"no policy":               {nil, own(enforce("own", inline(k)), `(`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := must(NewCluster(tc.cluster))
			found := c.Conflicts(t.Context(), namespace, nil, tc.own, func() ([]string, error) { return []string{k.pem()}, nil })
			if len(found) != len(tc.want) {
				t.Errorf("got %+v, want %v", found, tc.want)
			}
			for _, conflict := range found {
				if conflict.Reason != tc.want[conflict.Policy] || conflict.Message == "" {
					t.Errorf("got %+v, want reason %q", conflict, tc.want[conflict.Policy])
				}
			}
		})
	}
}

// A conflict is one for the verdicts, too: nothing passes.
func TestCluster_ConflictsArePassedByNothing(t *testing.T) {
	k, a := newKey(), newKey()
	c, in := withCluster(t, []ClusterPolicy{override("acme", 100, Enforce, gh, a), override("all", 100, Enforce, "*", k)})
	if found := in.Conflicts(t.Context(), namespace, nil, nil, noRing); len(found) != 2 {
		t.Errorf("got %+v", found)
	}
	for _, key := range []keyPair{k, a} {
		input := key.input()
		input.Source = "https://github.com/acme/x"
		c.expect(input, Failed, SignatureInvalid)
	}
}
