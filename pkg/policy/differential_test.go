// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/config"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"github.com/tektoncd/pipeline/pkg/trustedresources/verifier"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"knative.dev/pkg/logging"

	testclock "k8s.io/utils/clock/testing"

	trconfig "github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

var (
	differentialSeed  = flag.Uint64("differential.seed", 0, "Seed of the combinations; 0 for a random seed.")
	differentialCount = flag.Int("differential.count", 6000, "Number of combinations.")
)

var resultNames = map[trustedresources.VerificationResultType]string{
	trustedresources.VerificationPass:  "pass",
	trustedresources.VerificationWarn:  "warn",
	trustedresources.VerificationError: "error",
	trustedresources.VerificationSkip:  "skip",
}

// Random policies and resources: each verdict agrees with Tekton's verifier, from a
// new Set, from a Verifier that is used for all combinations, and from its cache.
func TestVerify_AgreesWithTekton(t *testing.T) {
	compareWithTekton(t, unrestricted{}, func(*testing.T, combination, Verdict) {}, func(c combination) combination { return c })
}

// With Secrets of the policy's own namespace only, each verdict agrees with Tekton's on
// policies whose foreign Secrets do not exist. So a policy that names a foreign
// Secret fails, and nothing else changes.
func TestVerify_AgreesWithTektonExceptOnForeignSecrets(t *testing.T) {
	own := ownSecrets{must(trconfig.Parse(map[string]string{"trustedresources.policies.secrets": "own-namespace"}))}
	compareWithTekton(t, own, expectForeignSecretsFail, withoutForeignSecrets)
}

// ownSecrets allows every KMS, and the Secrets that the configuration allows.
type ownSecrets struct{ *trconfig.Config }

func (ownSecrets) AllowKMS(string) error { return nil }

// withoutForeignSecrets returns the combination with foreign Secrets that do not
// exist.
func withoutForeignSecrets(c combination) combination {
	policies := make([]*v1alpha1.VerificationPolicy, 0, len(c.Policies))
	for _, p := range c.Policies {
		p = p.DeepCopy()
		for _, a := range p.Spec.Authorities {
			if foreign(a.Key) {
				a.Key.SecretRef.Name = "missing"
			}
		}
		policies = append(policies, p)
	}
	c.Policies = policies
	return c
}

// foreign reports whether the key is read from a Secret of another namespace.
func foreign(key *v1alpha1.KeyRef) bool {
	return key.Data == "" && key.SecretRef != nil && key.SecretRef.Namespace == elsewhere
}

func expectForeignSecretsFail(t *testing.T, c combination, verdict Verdict) {
	t.Helper()
	for _, outcome := range verdict.Policies {
		i := slices.IndexFunc(c.Policies, func(p *v1alpha1.VerificationPolicy) bool { return p.Name == outcome.Policy })
		names := slices.ContainsFunc(c.Policies[i].Spec.Authorities, func(a v1alpha1.Authority) bool { return foreign(a.Key) })
		if names && outcome.Result != Failed {
			t.Fatalf("policy %s names a foreign Secret, got %+v\n%s", outcome.Policy, outcome, c)
		}
		if !names && outcome.Reason == KeyNotAllowed {
			t.Fatalf("policy %s names no foreign Secret, got %+v\n%s", outcome.Policy, outcome, c)
		}
	}
}

// compareWithTekton compares verdicts on random combinations, under the given access,
// with Tekton's on what forTekton returns.
func compareWithTekton(
	t *testing.T, access Access, check func(*testing.T, combination, Verdict), forTekton func(combination) combination,
) {
	t.Helper()
	seed := *differentialSeed
	if seed == 0 {
		seed = rand.Uint64() //nolint:gosec // needs no secrecy
	}
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // needs to be repeatable
	w := newInventory()
	g := &generator{Rand: random, inventory: w}
	both := newVerifiers(t, w, access)
	outcomes, reasons := map[string]int{}, map[Reason]int{}
	for i := range *differentialCount {
		c := g.combination(i)
		want := both.tekton(forTekton(c))
		outcomes[resultNames[want]]++
		for how, verdict := range both.ours(c, fmt.Sprintf("ns-%d", i)) {
			if verdict.Tekton() != want {
				t.Fatalf("combination %d, %s: got %s (%+v), Tekton's is %s; repeat with -differential.seed=%d\n%s",
					i, how, resultNames[verdict.Tekton()], verdict, resultNames[want], seed, c)
			}
			check(t, c, verdict)
			reasons[verdict.Reason]++
		}
	}
	t.Logf("seed %d: %v of %d; by reason, three for each: %v", seed, outcomes, *differentialCount, reasons)
	for _, name := range slices.Sorted(maps.Values(resultNames)) {
		if outcomes[name] < *differentialCount/20 {
			t.Errorf("only %d of %d are %s (seed %d)", outcomes[name], *differentialCount, name, seed)
		}
	}
}

// verifiers are Tekton's verifier and ours. Both read the same Secrets.
type verifiers struct {
	t        *testing.T
	ctx      context.Context
	client   kubernetes.Interface
	sources  Sources
	policies policiesByNamespace
	verifier *Verifier
}

func newVerifiers(t *testing.T, w *inventory, access Access) *verifiers {
	t.Helper()
	ctx := logging.WithLogger(w.context(t.Context()), zap.NewNop().Sugar())
	v := &verifiers{t: t, ctx: ctx, client: fake.NewClientset(w.secrets...), policies: policiesByNamespace{}}
	v.sources = Sources{
		Secrets: clientSecrets{v.client}, Access: func() Access { return access },
		Clock: testclock.NewFakeClock(time.Unix(1e9, 0)),
	}
	v.verifier = New(v.policies, nil, v.sources)
	return v
}

type policiesByNamespace map[string][]*v1alpha1.VerificationPolicy

func (p policiesByNamespace) Policies(namespace string) ([]*v1alpha1.VerificationPolicy, error) {
	return p[namespace], nil
}

type clientSecrets struct{ client kubernetes.Interface }

func (s clientSecrets) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	secret, err := s.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

func (v *verifiers) tekton(c combination) trustedresources.VerificationResultType {
	ctx := config.ToContext(v.ctx, &config.Config{FeatureFlags: &config.FeatureFlags{VerificationNoMatchPolicy: c.NoMatch}})
	defaulted := c.Object.DeepCopyObject().(resource.Object)
	defaulted.SetDefaults(ctx)
	return trustedresources.VerifyResource(ctx, defaulted, v.client, c.RefSource, c.Policies).VerificationResultType
}

func (v *verifiers) ours(c combination, namespace string) map[string]Verdict {
	v.t.Helper()
	s := Input{
		Checksum:  must(resource.Checksum(v.ctx, c.Object, tekton.Newest)),
		Signature: c.signature(), Source: c.source(), NoMatch: NoMatch(c.NoMatch),
	}
	v.policies[namespace] = c.Policies
	return map[string]Verdict{
		"new Set":       NewSet(c.Policies, NewKeys(v.sources)).Verify(v.ctx, s),
		"cold Verifier": must(v.verifier.Verify(v.ctx, namespace, s)),
		"warm Verifier": must(v.verifier.Verify(v.ctx, namespace, s)),
	}
}

// The combinations have no authority without a key, because Tekton's verifier
// panics on it.
func TestVerify_FailsAuthorityWithoutKey(t *testing.T) {
	p := enforce("p", inline(newKey()), nil)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Tekton's verifier does not panic any more: add authorities without a key to the combinations")
			}
		}()
		_, _ = verifier.FromPolicy(t.Context(), nil, p)
	}()
	verdict := newCluster(t, p).verify(newKey().input())
	if verdict.Result != Failed || verdict.Reason != PolicyInvalid || verdict.Policy != "p" {
		t.Errorf("got %+v", verdict)
	}
	if want := `authority "authority-1": ` + verifier.ErrEmptyKey.Error(); verdict.Message != want {
		t.Errorf("the message is %q, want %q", verdict.Message, want)
	}
}

// An empty flag gives Tekton's default.
func TestNoMatch_AgreesWithTektonsFlag(t *testing.T) {
	for flag, want := range map[string]Mode{"": Skip, "ignore": Skip, "warn": Warn, "fail": Enforce, "unknown": Enforce} {
		if got := NoMatch(flag); got != want {
			t.Errorf("%q: got %s, want %s", flag, got, want)
		}
	}
	if flags, err := config.NewFeatureFlagsFromMap(nil); err != nil || NoMatch(flags.VerificationNoMatchPolicy) != Skip {
		t.Error(errors.Join(err, fmt.Errorf("the default is %q", flags.VerificationNoMatchPolicy)))
	}
}
