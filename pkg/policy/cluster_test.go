// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/racedetector"
)

// scenarioCount is the number of random scenarios of a comparison.
const scenarioCount = 50_000 / racedetector.Slowdown

const gh = "https://github.com/acme/*"

// clusterPolicy returns a policy for all namespaces.
func clusterPolicy(name string, tier v1alpha1.PolicyTier, priority int32, mode Mode, source string, keys ...keyPair) ClusterPolicy {
	p := ClusterPolicy{
		Name: name, Revision: Revision{UID: "uid-of-" + name, ResourceVersion: "1", SpecSHA256: fmt.Sprint(tier, priority, mode, source)},
		Spec: v1alpha1.ClusterVerificationPolicySpec{
			Tier: tier, Priority: priority, Mode: v1alpha1.PolicyMode(mode), Resources: []v1alpha1.PolicyResource{{Source: source}},
		},
		PublicKeys: map[string]string{},
	}
	for i, key := range keys {
		name := fmt.Sprintf("key-%d", i)
		p.Spec.Authorities = append(p.Spec.Authorities, v1alpha1.PolicyAuthority{Name: name, Data: key.pem()})
		p.PublicKeys[name] = key.pem()
	}
	return p
}

func override(name string, priority int32, mode Mode, source string, keys ...keyPair) ClusterPolicy {
	return clusterPolicy(name, v1alpha1.TierOverride, priority, mode, source, keys...)
}

func fallback(keys ...keyPair) ClusterPolicy {
	return clusterPolicy("base", v1alpha1.TierDefault, 500, Enforce, "*", keys...)
}

// inCluster gives namespaces their policies.
type inCluster struct {
	*Cluster

	labels map[string]map[string]string // by namespace
	ring   []string
	err    error
}

func (c *inCluster) Ranks(namespace string) (Ranks, error) {
	if c.err != nil {
		return Ranks{}, c.err
	}
	return c.Cluster.Ranks(namespace, c.labels[namespace], func() ([]string, error) { return c.ring, nil })
}

// withCluster is newCluster with ClusterVerificationPolicies.
func withCluster(t *testing.T, policies []ClusterPolicy, own ...*tekton.VerificationPolicy) (*cluster, *inCluster) {
	t.Helper()
	c := newCluster(t, own...)
	in := &inCluster{Cluster: must(NewCluster(policies)), labels: map[string]map[string]string{}}
	c.Verifier = New(c.policies, in, asTekton(c.secrets, c.clock))
	return c, in
}

// The worked examples of docs/cluster-policies.md, by their numbers.
func TestClusterPolicies_DecideInOrder(t *testing.T) {
	k, a := newKey(), newKey()
	const local, ours = "/apis/tekton.dev/v1/namespaces/other/tasks/build", "https://github.com/acme/repo"
	everything := override("all", 100, Enforce, "*", k)
	acmeOnly := override("acme", 10, Enforce, gh, a)
	skipAcme := override("skip-acme", 10, Skip, gh)
	own := func(p *tekton.VerificationPolicy, pattern string) []*tekton.VerificationPolicy {
		return []*tekton.VerificationPolicy{matching(p, pattern)}
	}
	for name, tc := range map[string]struct {
		cluster []ClusterPolicy
		own     []*tekton.VerificationPolicy
		source  string
		signer  *keyPair // nil: unsigned
		want    Result
		reason  Reason
		mode    Mode
		policy  string
		tekton  string // what Tekton does
	}{
		"1":                     {[]ClusterPolicy{everything}, nil, local, nil, Failed, Unsigned, Enforce, "all", "skip"},
		"2":                     {[]ClusterPolicy{everything}, nil, local, &k, Passed, "", Enforce, "all", "skip"},
		"3":                     {[]ClusterPolicy{everything}, own(enforce("own", inline(a)), ".*"), local, &k, Passed, "", Enforce, "all", "error"},
		"4":                     {[]ClusterPolicy{everything}, own(warn("own", inline(a)), ".*"), local, nil, Failed, Unsigned, Enforce, "all", "warn"},
		"5":                     {[]ClusterPolicy{skipAcme, everything}, nil, ours, nil, Skipped, PolicySkip, Skip, "skip-acme", "skip"},
		"6":                     {[]ClusterPolicy{skipAcme, everything}, nil, local, nil, Failed, Unsigned, Enforce, "all", "skip"},
		"7":                     {[]ClusterPolicy{acmeOnly, everything}, nil, ours, &k, Failed, SignatureInvalid, Enforce, "acme", "skip"},
		"7, signed by A":        {[]ClusterPolicy{acmeOnly, everything}, nil, ours, &a, Passed, "", Enforce, "acme", "skip"},
		"8":                     {[]ClusterPolicy{override("acme", 100, Enforce, gh, a), everything}, nil, ours, &a, Failed, SignatureInvalid, Enforce, "all", "skip"},
		"8, signed by K":        {[]ClusterPolicy{override("acme", 100, Enforce, gh, a), everything}, nil, ours, &k, Failed, SignatureInvalid, Enforce, "acme", "skip"},
		"9":                     {[]ClusterPolicy{override("skip-acme", 100, Skip, gh), everything}, nil, ours, nil, Failed, Unsigned, Enforce, "all", "skip"},
		"11":                    {[]ClusterPolicy{fallback(k)}, own(warn("own", inline(a)), `https://github\.com/acme/.*`), ours, nil, Failed, Unsigned, Warn, "own", "warn"},
		"12":                    {[]ClusterPolicy{fallback(k)}, own(warn("own", inline(a)), `https://github\.com/acme/.*`), local, nil, Failed, Unsigned, Enforce, "base", "skip"},
		"13":                    {[]ClusterPolicy{fallback(k)}, own(enforce("own", inline(a)), "https://(github.com|b)/.*"), ours, &a, Passed, "", Enforce, "own", "pass"},
		"16":                    {[]ClusterPolicy{everything}, own(enforce("own", inline(a)), `x\$`), local, &k, Passed, "", Enforce, "all", "error"},
		"17":                    {nil, nil, local, nil, Skipped, NoPolicy, Skip, "", "skip"},
		"warn of the cluster":   {[]ClusterPolicy{override("w", 1, Warn, "*", k)}, nil, local, nil, Failed, Unsigned, Warn, "w", "skip"},
		"own broken, Default":   {[]ClusterPolicy{fallback(k)}, own(enforce("own", inline(a)), `x\$`), local, &k, Failed, PolicyInvalid, Enforce, "own", "error"},
		"own, no cluster match": {[]ClusterPolicy{acmeOnly}, own(enforce("own", inline(a)), ".*"), local, &a, Passed, "", Enforce, "own", "pass"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := withCluster(t, tc.cluster, tc.own...)
			in := Input{Checksum: k.input().Checksum, Source: tc.source, NoMatch: Skip}
			if tc.signer != nil {
				in.Signature = tc.signer.input().Signature
			}
			for _, when := range []string{"cold", "warm"} {
				got := c.verify(in)
				if got.Result != tc.want || got.Reason != tc.reason || got.Mode != tc.mode || got.Policy != tc.policy {
					t.Errorf("%s: got %s %q mode %s by %q, want %s %q mode %s by %q", when,
						got.Result, got.Reason, got.Mode, got.Policy, tc.want, tc.reason, tc.mode, tc.policy)
				}
				if name := resultNames[got.Tekton()]; name != tc.tekton {
					t.Errorf("%s: Tekton: got %s, want %s", when, name, tc.tekton)
				}
			}
		})
	}
}

// Example 10: the same policy in mode enforce where a label asks for it.
func TestClusterPolicies_SelectNamespaces(t *testing.T) {
	k := newKey()
	stage := override("stage", 10, Enforce, "*", k)
	stage.Spec.NamespaceSelector = metav1.LabelSelector{MatchLabels: map[string]string{"stage": "1"}}
	c, in := withCluster(t, []ClusterPolicy{stage, override("all", 100, Warn, "*", k)})
	in.labels["staged"] = map[string]string{"stage": "1"}
	for ns, want := range map[string]Mode{"staged": Enforce, "other": Warn} {
		verdict, err := c.Verify(t.Context(), ns, Input{Checksum: k.input().Checksum, Source: "any"})
		if err != nil || verdict.Mode != want || verdict.Result != Failed || in.ModeOf(in.labels[ns]) != want {
			t.Errorf("namespace %s: got %+v and error %v, want mode %s", ns, verdict, err, want)
		}
	}
}

// Example 14.
func TestClusterPolicies_NameTheNamespaceOfTheRun(t *testing.T) {
	own := override("own", 10, Skip, "/apis/tekton.dev/v1/namespaces/$(namespace)/*")
	c, _ := withCluster(t, []ClusterPolicy{own, override("all", 100, Enforce, "*", newKey())})
	for _, tc := range []struct {
		run, content string
		want         Result
	}{{"a", "a", Skipped}, {"b", "b", Skipped}, {"a", "b", Failed}, {"a", "a.evil", Failed}, {"b", "a", Failed}} {
		source := "/apis/tekton.dev/v1/namespaces/" + tc.content + "/tasks/build"
		verdict, err := c.Verify(t.Context(), tc.run, Input{Checksum: newKey().input().Checksum, Source: source})
		if err != nil || verdict.Result != tc.want {
			t.Errorf("run in %s, content of %s: got %s and error %v, want %s", tc.run, tc.content, verdict.Result, err, tc.want)
		}
	}
}

// Example 15: both keys of a KeyRing verify during a rotation, and afterwards one.
func TestClusterPolicies_FollowTheKeyRing(t *testing.T) {
	older, newer, stranger := newKey(), newKey(), newKey()
	p := override("all", 100, Enforce, "*")
	p.Spec.Authorities = []v1alpha1.PolicyAuthority{{Name: "ring", KeyRing: v1alpha1.KeyRingActive}}
	c, in := withCluster(t, []ClusterPolicy{p})
	expect := func(key keyPair, want Result) {
		t.Helper()
		c.expect(key.input(), want, map[Result]Reason{Failed: SignatureInvalid}[want])
	}
	in.ring = []string{older.pem(), newer.pem()}
	expect(older, Passed)
	expect(newer, Passed)
	expect(stranger, Failed)
	in.ring = []string{newer.pem()}
	c.ClusterChanged()
	expect(older, Failed)
	expect(newer, Passed)
	in.ring = nil
	c.ClusterChanged()
	c.expect(newer.input(), Failed, PolicyInvalid) // no key is trusted
	in.err = errNotFound
	c.ClusterChanged()
	if verdict, err := c.Verify(t.Context(), namespace, newer.input()); err == nil {
		t.Errorf("the policies are not known: got %+v", verdict)
	}
}

// A skip shows what it lets pass.
func TestClusterPolicies_SkipHasAShadowVerdict(t *testing.T) {
	k := newKey()
	c, _ := withCluster(t, []ClusterPolicy{override("skip", 1, Skip, "*"), override("all", 2, Enforce, "*", k)})
	for _, tc := range []struct {
		in   Input
		want Result
	}{{k.input(), Passed}, {Input{Checksum: k.input().Checksum}, Failed}} {
		got := c.verify(tc.in)
		if got.Result != Skipped || got.Shadow == nil || got.Shadow.Result != tc.want || got.Shadow.Policy != "all" {
			t.Errorf("got %+v with shadow %+v, want shadow %s", got.Outcome, got.Shadow, tc.want)
		}
	}
}

// With a mode other than enforce, our own policies never block.
func TestClusterPolicies_WarnNeverBlocks(t *testing.T) {
	c, _ := withCluster(t, []ClusterPolicy{override("w", 1, Warn, "*", newKey())})
	got := c.verify(Input{Checksum: newKey().input().Checksum, Signature: "no base64!"})
	if got.Result != Failed || got.Mode != Warn {
		t.Errorf("got %+v", got)
	}
}

func TestClusterPolicies_AuthorizeSignatures(t *testing.T) {
	vendor := newKey()
	in := &inCluster{Cluster: must(NewCluster([]ClusterPolicy{override("vendor", 1, Enforce, gh, vendor)}))}
	set := NewSet(nil, NewKeys(asTekton(nil, testclock.NewFakeClock(time.Unix(1e9, 0))))).With(must(in.Ranks("any")))
	for _, key := range []keyPair{vendor, newKey()} {
		signature := must(base64.StdEncoding.DecodeString(key.input().Signature))
		if authorized, err := set.Authorizes(t.Context(), signature, key.input().Checksum); err != nil || authorized != (key == vendor) {
			t.Errorf("got %v and error %v", authorized, err)
		}
	}
}

func TestNewCluster_RefusesWhatCannotBeEvaluated(t *testing.T) {
	for name, change := range map[string]func(*ClusterPolicy){
		"selector":        func(p *ClusterPolicy) { p.Spec.NamespaceSelector.MatchLabels = map[string]string{"a b": "c"} },
		"pattern":         func(p *ClusterPolicy) { p.Spec.Resources = []v1alpha1.PolicyResource{{Pattern: "("}} },
		"pattern, escape": func(p *ClusterPolicy) { p.Spec.Resources = []v1alpha1.PolicyResource{{Pattern: `x\`}} },
		"large pattern":   func(p *ClusterPolicy) { p.Spec.Resources = []v1alpha1.PolicyResource{{Pattern: "(a{1,900}){1,900}"}} },
	} {
		p := override("p", 1, Enforce, "*", newKey())
		change(&p)
		if _, err := NewCluster([]ClusterPolicy{p}); err == nil || !strings.Contains(err.Error(), "ClusterVerificationPolicy p") {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

// Each verdict on random policies is the one of a slow and obvious reference, whatever the
// order in which policies are listed.
func TestClusterPolicies_AgreeWithTheReference(t *testing.T) {
	t.Parallel()
	g := newClusterGenerator()
	outcomes := map[string]int{}
	const count = scenarioCount
	for i := range count {
		s := g.scenario()
		want := s.reference()
		got := s.evaluate(t)
		if got != want {
			t.Fatalf("scenario %d: got %s, want %s; repeat with -differential.seed=%d\n%+v", i, got, want, g.seed, s)
		}
		s.shuffle(g.Rand)
		if again := s.evaluate(t); again != got {
			t.Fatalf("scenario %d: got %s in another order, want %s; repeat with -differential.seed=%d\n%+v", i, again, got, g.seed, s)
		}
		outcomes[strings.Fields(got)[0]]++
	}
	t.Logf("seed %d: %v", g.seed, outcomes)
	for _, result := range []string{"PASSED", "FAILED", "SKIPPED"} {
		if outcomes[result] < count/50 {
			t.Errorf("only %d of %d are %s (seed %d)", outcomes[result], count, result, g.seed)
		}
	}
}

// Somebody with all rights on the policies of a namespace can neither loosen nor tighten what
// the tier Override decides.
func TestClusterPolicies_OwnPoliciesDoNotChangeOverride(t *testing.T) {
	t.Parallel()
	g := newClusterGenerator()
	decided := 0
	for i := range scenarioCount / 5 {
		s := g.scenario()
		if len(s.lowest(v1alpha1.TierOverride)) == 0 || len(s.own) == 0 {
			continue
		}
		decided++
		with := s.evaluate(t)
		own := s.own
		s.own = nil
		if without := s.evaluate(t); with != without {
			t.Fatalf("scenario %d: %s, and %s with own policies; repeat with -differential.seed=%d\n%+v\n%+v", i, without, with, g.seed, s, own)
		}
	}
	if decided < scenarioCount/50 {
		t.Errorf("only %d scenarios have policies of both kinds (seed %d)", decided, g.seed)
	}
}

// clusterGenerator makes scenarios from a seed.
type clusterGenerator struct {
	*rand.Rand

	seed uint64
	keys []keyPair
}

func newClusterGenerator() *clusterGenerator {
	seed := *differentialSeed
	if seed == 0 {
		seed = rand.Uint64() //nolint:gosec // needs no secrecy
	}
	return &clusterGenerator{rand.New(rand.NewPCG(seed, 0)), seed, []keyPair{newKey(), newKey(), newKey()}} //nolint:gosec // needs to be repeatable
}

// clusterScenario is one source with the policies that are there.
type clusterScenario struct {
	labels  map[string]string
	cluster []ClusterPolicy
	own     []*tekton.VerificationPolicy
	input   Input
	signer  int // index of the key; negative: unsigned
	keys    []keyPair
}

var sourcesOfScenarios = []string{"", "https://a/b", "https://a/c", "git+https://a/b", "x\ny", "/apis/tekton.dev/v1/namespaces/ns/tasks/t"}

func pick[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

func (g *clusterGenerator) scenario() clusterScenario {
	s := clusterScenario{labels: pick(g.Rand, nil, map[string]string{"stage": "1"}), signer: g.IntN(len(g.keys)+1) - 1, keys: g.keys}
	s.input = Input{Checksum: g.keys[0].input().Checksum, Source: pick(g.Rand, sourcesOfScenarios...), NoMatch: Skip}
	if s.signer >= 0 {
		s.input.Signature = g.keys[s.signer].input().Signature
	}
	for i := range g.IntN(5) {
		mode := pick(g.Rand, Enforce, Enforce, Warn, Skip)
		var keys []keyPair
		if mode != Skip {
			keys = g.some()
		}
		p := clusterPolicy(fmt.Sprint("c", i), pick(g.Rand, v1alpha1.TierOverride, v1alpha1.TierDefault), int32(g.IntN(3)), mode, //nolint:gosec // at most 2
			pick(g.Rand, "*", "https://a/*", "https://a/b", "/apis/tekton.dev/v1/namespaces/$(namespace)/*", "https://b/*"), keys...)
		if mode != Skip && g.IntN(4) == 0 {
			p.Spec.Resources = []v1alpha1.PolicyResource{{Pattern: pick(g.Rand, "https://a/b|x", ".*", "(?s:.*)")}}
		}
		if g.IntN(3) == 0 {
			p.Spec.NamespaceSelector.MatchLabels = map[string]string{"stage": "1"}
		}
		s.cluster = append(s.cluster, p)
	}
	for i := range g.IntN(3) {
		p := pick(g.Rand, enforce, warn)(fmt.Sprint("o", i))
		for j, key := range g.some() {
			p.Spec.Authorities = append(p.Spec.Authorities, tekton.Authority{Name: fmt.Sprint(j), Key: inline(key)})
		}
		s.own = append(s.own, matching(p, pick(g.Rand, ".*", "https://a/.*", "https://b/.*", "https://a/b")))
	}
	return s
}

func (g *clusterGenerator) some() []keyPair {
	first := g.IntN(len(g.keys))
	return g.keys[first:min(len(g.keys), first+1+g.IntN(2))]
}

func (s *clusterScenario) shuffle(r *rand.Rand) {
	r.Shuffle(len(s.cluster), func(i, j int) { s.cluster[i], s.cluster[j] = s.cluster[j], s.cluster[i] })
	r.Shuffle(len(s.own), func(i, j int) { s.own[i], s.own[j] = s.own[j], s.own[i] })
}

func (s *clusterScenario) evaluate(t *testing.T) string {
	t.Helper()
	cluster := must(NewCluster(s.cluster))
	ranks := must(cluster.Ranks(namespace, s.labels, func() ([]string, error) { return nil, nil }))
	v := NewSet(s.own, NewKeys(asTekton(nil, testclock.NewFakeClock(time.Unix(1e9, 0))))).With(ranks).Verify(t.Context(), s.input)
	scope := "own"
	if v.Rank != nil {
		scope = "cluster"
	}
	if v.Reason == NoPolicy {
		return "SKIPPED nothing"
	}
	return fmt.Sprint(v.Result, " ", v.Mode, " ", scope)
}

// deciding is a policy that may decide in a scenario.
type deciding struct {
	mode Mode
	keys []string
}

// reference says what the guide for administrators says, in its words.
func (s *clusterScenario) reference() string {
	scope, all := "cluster", s.lowest(v1alpha1.TierOverride)
	if own := s.matchingOwn(); len(all) == 0 && len(own) > 0 {
		scope, all = "own", own
	}
	if len(all) == 0 {
		all = s.lowest(v1alpha1.TierDefault)
	}
	if len(all) == 0 {
		return "SKIPPED nothing"
	}
	verifying := slices.DeleteFunc(slices.Clone(all), func(d deciding) bool { return d.mode == Skip })
	if len(verifying) == 0 {
		return "SKIPPED skip " + scope
	}
	passes := func(d deciding) bool { return s.signer >= 0 && slices.Contains(d.keys, s.keys[s.signer].pem()) }
	for _, mode := range []Mode{Enforce, Warn} {
		if slices.ContainsFunc(verifying, func(d deciding) bool { return d.mode == mode && !passes(d) }) {
			return fmt.Sprint("FAILED ", mode, " ", scope)
		}
	}
	if slices.ContainsFunc(verifying, func(d deciding) bool { return d.mode == Enforce }) {
		return "PASSED enforce " + scope
	}
	return "PASSED warn " + scope
}

// lowest returns the policies of a tier with the lowest number that select the namespace and
// match the source.
func (s *clusterScenario) lowest(tier v1alpha1.PolicyTier) (all []deciding) {
	var here []ClusterPolicy
	for _, p := range s.cluster {
		selected := len(p.Spec.NamespaceSelector.MatchLabels) == 0 || s.labels["stage"] == "1"
		if p.Spec.Tier == tier && selected && s.sourceMatches(p) {
			here = append(here, p)
		}
	}
	for _, p := range here {
		if !slices.ContainsFunc(here, func(other ClusterPolicy) bool { return other.Spec.Priority < p.Spec.Priority }) {
			all = append(all, deciding{Mode(p.Spec.Mode), slices.Collect(maps.Values(p.PublicKeys))})
		}
	}
	return all
}

// matchingOwn returns the policies of the namespace that match the source.
func (s *clusterScenario) matchingOwn() (own []deciding) {
	for _, p := range s.own {
		if s.ownMatches(p.Spec.Resources[0].Pattern) {
			d := deciding{mode: modeOf(p)}
			for _, a := range p.Spec.Authorities {
				d.keys = append(d.keys, a.Key.Data)
			}
			own = append(own, d)
		}
	}
	return own
}

// sourceMatches knows the few sources and patterns of the scenarios.
func (s *clusterScenario) sourceMatches(p ClusterPolicy) bool {
	uri := strings.TrimPrefix(s.input.Source, "git+")
	switch p.Spec.Resources[0] {
	case v1alpha1.PolicyResource{Source: "*"}, v1alpha1.PolicyResource{Pattern: "(?s:.*)"}:
		return true
	case v1alpha1.PolicyResource{Pattern: ".*"}:
		return !strings.Contains(uri, "\n")
	case v1alpha1.PolicyResource{Source: "https://a/*"}:
		return uri == "https://a/b" || uri == "https://a/c"
	case v1alpha1.PolicyResource{Source: "https://a/b"}, v1alpha1.PolicyResource{Pattern: "https://a/b|x"}:
		return uri == "https://a/b"
	case v1alpha1.PolicyResource{Source: "https://b/*"}:
		return false
	default: // that of the namespace, which is "ns"
		return uri == "/apis/tekton.dev/v1/namespaces/ns/tasks/t"
	}
}

func (s *clusterScenario) ownMatches(pattern string) bool {
	uri := strings.TrimPrefix(s.input.Source, "git+")
	switch pattern {
	case ".*":
		return !strings.Contains(uri, "\n")
	case "https://a/.*":
		return uri == "https://a/b" || uri == "https://a/c"
	case "https://a/b":
		return uri == "https://a/b"
	default:
		return false
	}
}
