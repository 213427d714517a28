// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/config"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	testclock "k8s.io/utils/clock/testing"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	dialect "github.com/trusted-resources/chains-extension/pkg/tekton"
)

// materialized returns the policies as they are when they are to be materialized.
func materialized(policies ...ClusterPolicy) []ClusterPolicy {
	for i := range policies {
		policies[i].Spec.Materialize = policies[i].Spec.Mode != v1alpha1.PolicySkip
	}
	return policies
}

func noRing() ([]string, error) { return nil, nil }

// materialize returns what is materialized in the namespace, by the name of the policy.
func materialize(t *testing.T, policies []ClusterPolicy, ring func() ([]string, error), own ...*tekton.VerificationPolicy) map[string]Materialized {
	t.Helper()
	found := map[string]Materialized{}
	for _, m := range must(must(NewCluster(policies)).Materialized(namespace, nil, own, ring)) {
		found[m.Policy] = m
	}
	return found
}

func TestMaterialized_IsLeftOutWhereTektonWouldDecideOtherwise(t *testing.T) {
	k, a := newKey(), newKey()
	everything := override("all", 100, Enforce, "*", k)
	pattern := func(p ClusterPolicy, text string) ClusterPolicy {
		p.Spec.Resources = []v1alpha1.PolicyResource{{Pattern: text}}
		return p
	}
	elsewhere := override("elsewhere", 1, Enforce, "*", a)
	elsewhere.Spec.NamespaceSelector.MatchLabels = map[string]string{"other": "label"}
	for name, tc := range map[string]struct {
		cluster []ClusterPolicy
		own     []*tekton.VerificationPolicy
		refused map[string]string // the reasons, by policy
	}{
		"alone":                              {[]ClusterPolicy{everything}, nil, nil},
		"own policy under Override":          {[]ClusterPolicy{everything}, []*tekton.VerificationPolicy{enforce("own", inline(a))}, nil},
		"first, and the one below":           {[]ClusterPolicy{override("acme", 10, Enforce, gh, a), everything}, nil, map[string]string{"all": v1alpha1.PolicyOverlaps}},
		"skip before":                        {[]ClusterPolicy{override("skip", 10, Skip, gh), everything}, nil, map[string]string{"all": v1alpha1.PolicyOverlaps}},
		"same rank":                          {[]ClusterPolicy{override("acme", 100, Enforce, gh, a), everything}, nil, nil},
		"other sources before":               {[]ClusterPolicy{override("acme", 10, Enforce, gh, a), override("b", 100, Enforce, "https://github.com/b/*", k)}, nil, nil},
		"source before, inside":              {[]ClusterPolicy{override("one", 10, Enforce, "https://github.com/acme/one", a), override("b", 100, Enforce, gh, k)}, nil, map[string]string{"b": v1alpha1.PolicyOverlaps}},
		"source before, outside":             {[]ClusterPolicy{override("one", 10, Enforce, "https://b", a), override("b", 100, Enforce, gh, k)}, nil, nil},
		"pattern before":                     {[]ClusterPolicy{pattern(override("p", 10, Enforce, "", a), "https://b/.*"), override("b", 100, Enforce, gh, k)}, nil, map[string]string{"b": v1alpha1.PolicyOverlaps}},
		"pattern before, one source outside": {[]ClusterPolicy{pattern(override("p", 10, Enforce, "", a), "https://b/.*"), override("b", 100, Enforce, "https://c", k)}, nil, nil},
		"pattern before, one source inside":  {[]ClusterPolicy{pattern(override("p", 10, Enforce, "", a), "https://b/.*"), override("b", 100, Enforce, "https://b/c", k)}, nil, map[string]string{"b": v1alpha1.PolicyOverlaps}},
		"before in other namespaces":         {[]ClusterPolicy{elsewhere, everything}, nil, nil},
		"Default under Override":             {[]ClusterPolicy{override("acme", 1000, Enforce, gh, a), fallback(k)}, nil, map[string]string{"base": v1alpha1.PolicyOverlaps}},
		"Default with own":                   {[]ClusterPolicy{fallback(k)}, []*tekton.VerificationPolicy{warn("own", inline(a))}, map[string]string{"base": v1alpha1.PolicyOverlaps}},
		"Default alone":                      {[]ClusterPolicy{fallback(k)}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for policy, m := range materialize(t, materialized(tc.cluster...), noRing, tc.own...) {
				if m.Reason != tc.refused[policy] || (m.Object == nil) != (m.Reason != "") || (m.Message == "") != (m.Reason == "") {
					t.Errorf("policy %s: got %+v, want reason %q", policy, m, tc.refused[policy])
				}
			}
		})
	}
}

func TestMaterialized_HasItsLimits(t *testing.T) {
	ring := override("ring", 1, Enforce, "*")
	ring.Spec.Authorities = []v1alpha1.PolicyAuthority{{Name: "ours", KeyRing: v1alpha1.KeyRingActive, HashAlgorithm: "sha256"}}
	key := newKey()
	if m := materialize(t, materialized(ring), noRing)["ring"]; m.Reason != v1alpha1.PolicyNotExpressible {
		t.Errorf("without a key: got %+v", m)
	}
	withKey := func() ([]string, error) { return []string{key.pem()}, nil }
	if m := materialize(t, materialized(ring), withKey)["ring"]; m.Object == nil || m.Object.Spec.Authorities[0].Key.Data != key.pem() {
		t.Errorf("with a key: got %+v", m)
	}
	broken := func() ([]string, error) { return nil, errNotFound }
	if _, err := must(NewCluster(materialized(ring))).Materialized(namespace, nil, nil, broken); err == nil {
		t.Error("the keys of the KeyRing are not known, and there is no error")
	}
	large := override("large", 1, Enforce, "*", key)
	large.Spec.Resources = nil
	for range 32 {
		large.Spec.Resources = append(large.Spec.Resources, v1alpha1.PolicyResource{Source: strings.Repeat(`+`, 500)})
	}
	large.PublicKeys["key-0"] = strings.Repeat("k", 33<<10)
	if m := materialize(t, materialized(large), noRing)["large"]; m.Reason != v1alpha1.PolicyNotExpressible || !strings.Contains(m.Message, "bytes") {
		t.Errorf("a large policy: got %+v", m)
	}
}

// Tekton decides by the materialized policies as we do by ClusterVerificationPolicies, and our
// verdict is the same with and without them.
func TestMaterialized_TektonDecidesTheSame(t *testing.T) {
	t.Parallel()
	g := newClusterGenerator()
	objects := g.signed(t)
	seen := map[trustedresources.VerificationResultType]int{}
	for i := range scenarioCount / 5 {
		s := g.scenario()
		for j := range s.cluster {
			s.cluster[j].Spec.Materialize = s.cluster[j].Spec.Mode != v1alpha1.PolicySkip && g.IntN(5) > 0
		}
		object := objects[s.signer+1]
		s.input.Checksum = must(resource.Checksum(t.Context(), object, dialect.Newest))
		s.input.Signature = object.Annotations[trustedresources.SignatureAnnotation]
		compareMaterialized(t, s, object, seen)
		if t.Failed() {
			t.Fatalf("scenario %d; repeat with -differential.seed=%d\n%+v", i, g.seed, s)
		}
	}
	t.Logf("seed %d: Tekton's verdicts: %v", g.seed, seen)
	for _, verdict := range []trustedresources.VerificationResultType{trustedresources.VerificationPass, trustedresources.VerificationError, trustedresources.VerificationWarn} {
		if seen[verdict] < scenarioCount/2000 {
			t.Errorf("only %d of Tekton's verdicts are %v (seed %d)", seen[verdict], resultNames[verdict], g.seed)
		}
	}
}

// signed returns Tasks: one that is not signed, and one signed by each key.
func (g *clusterGenerator) signed(t *testing.T) []*v1.Task {
	t.Helper()
	tasks := make([]*v1.Task, len(g.keys)+1)
	for i := range tasks {
		tasks[i] = &v1.Task{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "t"},
			Spec:       v1.TaskSpec{Steps: []v1.Step{{Image: "i"}}},
		}
		tasks[i].SetDefaults(t.Context())
		if i > 0 {
			checksum := must(resource.Checksum(t.Context(), tasks[i], dialect.Newest))
			tasks[i].Annotations = map[string]string{trustedresources.SignatureAnnotation: g.keys[i-1].sign(checksum, crypto.SHA256)}
		}
	}
	return tasks
}

func compareMaterialized(t *testing.T, s clusterScenario, object *v1.Task, seen map[trustedresources.VerificationResultType]int) {
	t.Helper()
	cluster := must(NewCluster(s.cluster))
	ranks := must(cluster.Ranks(namespace, s.labels, noRing))
	verdict := func(own []*tekton.VerificationPolicy, ranks Ranks) Verdict {
		return NewSet(own, NewKeys(asTekton(nil, testclock.NewFakeClock(time.Unix(1e9, 0))))).With(ranks).Verify(t.Context(), s.input)
	}
	var emitted []*tekton.VerificationPolicy
	refused := 0
	for _, m := range must(cluster.Materialized(namespace, s.labels, s.own, noRing)) {
		if m.Object != nil {
			emitted = append(emitted, m.Object)
		} else {
			refused++
		}
	}
	before, after := verdict(s.own, ranks), verdict(slices.Concat(s.own, emitted), ranks)
	if before.Result != after.Result || before.Mode != after.Mode || before.Policy != after.Policy || before.Reason != after.Reason {
		t.Errorf("our verdict is %+v, and with the materialized policies %+v", before.Outcome, after.Outcome)
	}
	complete := len(before.Policies) > 0 && !slices.ContainsFunc(before.Policies, func(o Outcome) bool { // all that decide are materialized
		return !slices.ContainsFunc(emitted, func(p *tekton.VerificationPolicy) bool { return p.Name == MaterializedName(o.Policy) })
	})
	if len(s.own) > 0 || !complete && !anyMatches(emitted, s.input.Source) {
		return // Tekton also knows other policies, or none
	}
	ctx := config.ToContext(logging.WithLogger(t.Context(), zap.NewNop().Sugar()), &config.Config{FeatureFlags: &config.FeatureFlags{VerificationNoMatchPolicy: config.IgnoreNoMatchPolicy}})
	got := trustedresources.VerifyResource(ctx, object, nil, &v1.RefSource{URI: s.input.Source}, emitted).VerificationResultType
	seen[got]++
	want := map[bool]trustedresources.VerificationResultType{true: trustedresources.VerificationPass, false: trustedresources.VerificationError}[before.Result == Passed]
	if before.Result == Failed && before.Mode == Warn {
		want = trustedresources.VerificationWarn
	}
	if complete && got != want || got == trustedresources.VerificationError && want != trustedresources.VerificationError {
		t.Errorf("Tekton says %s with %d policies and %d left out, our verdict is %+v", resultNames[got], len(emitted), refused, before.Outcome)
	}
}

func anyMatches(policies []*tekton.VerificationPolicy, source string) bool {
	return slices.ContainsFunc(NewSet(policies, nil).policies, func(p *policy) bool { return must(p.matches(normalized(source), &limits{})) })
}

func TestMaterializedName(t *testing.T) {
	seen := map[string]string{}
	for _, policy := range []string{"a", "a-b", "a.b", strings.Repeat("x", 45), strings.Repeat("x", 46), strings.Repeat("a.", 100) + "b", strings.Repeat("x", 44) + ".y"} {
		name := MaterializedName(policy)
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			t.Errorf("policy %s: name %s: %v", policy, name, problems)
		}
		if other, found := seen[name]; found {
			t.Errorf("policies %s and %s have the same name %s", policy, other, name)
		}
		seen[name] = policy
	}
}

func FuzzMaterialized(f *testing.F) {
	for _, text := range []string{"*", "https://a/*", "$(namespace)", `\Q`, "a\\E*", "(?m)", "x|y"} {
		f.Add(text, "https://a/b")
		f.Add(text, "https://a/b\nc")
	}
	key := newKey()
	f.Fuzz(func(t *testing.T, text, source string) {
		if strings.Contains(strings.TrimSuffix(text, "*"), "*") || len(text) > 512 {
			return // the API server refuses these
		}
		p := override("p", 1, Enforce, text, key)
		found := materialize(t, materialized(p), noRing)["p"]
		if found.Object == nil {
			t.Fatalf("got %+v", found)
		}
		ours := patternOf(p.Spec.Resources[0], namespace)
		want := must(ours.matches(normalized(source), &limits{}))
		if got, err := matches(found.Object.Spec.Resources[0].Pattern, normalized(source), &limits{}); err != nil || got != want {
			t.Fatalf("the VerificationPolicy matches %q: %t (error %v), want %t", source, got, err, want)
		}
	})
}
