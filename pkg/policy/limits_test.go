// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/utils/clock"
)

// policiesOf returns n policies that trust the key, changed by modify.
func policiesOf(n int, key keyPair, modify func(*v1alpha1.VerificationPolicy)) (policies []*v1alpha1.VerificationPolicy) {
	for i := range n {
		p := matching(enforce(fmt.Sprintf("p%05d", i), inline(key)), ".*")
		modify(p)
		policies = append(policies, p)
	}
	return policies
}

// Policies of a tenant that are too many or too large take neither memory nor time, and
// nothing passes because of them.
func TestVerify_FailsBeyondTheLimits(t *testing.T) {
	key := newKey()
	checksum := must((&v1.Task{}).Checksum())
	unchanged := func(*v1alpha1.VerificationPolicy) {}
	patterns := func(n int, pattern string) func(*v1alpha1.VerificationPolicy) {
		return func(p *v1alpha1.VerificationPolicy) {
			for range n { // before the one that matches
				p.Spec.Resources = append([]v1alpha1.ResourcePattern{{Pattern: pattern}}, p.Spec.Resources...)
			}
		}
	}
	authorities := func(n int) func(*v1alpha1.VerificationPolicy) {
		return func(p *v1alpha1.VerificationPolicy) {
			for range n - 1 {
				p.Spec.Authorities = append(p.Spec.Authorities, p.Spec.Authorities[0])
			}
		}
	}
	const source = "https://git.example/catalog"
	for name, tc := range map[string]struct {
		most, beyond []*v1alpha1.VerificationPolicy
		source       string
	}{
		"policies":            {policiesOf(maxAuthorities, key, unchanged), policiesOf(20_000, key, patterns(1, "other")), source},
		"authorities":         {policiesOf(1, key, authorities(maxAuthorities)), policiesOf(1, key, authorities(maxAuthorities+1)), source},
		"patterns":            {policiesOf(1, key, patterns(maxPatterns-1, "other")), policiesOf(1, key, patterns(maxPatterns, "other")), source},
		"bytes of a pattern":  {policiesOf(1, key, patterns(1, "(a|"+strings.Repeat("b", 1000)+")")), policiesOf(1, key, patterns(1, "(a|"+strings.Repeat("b", maxPattern)+")")), source},
		"repetitions":         {policiesOf(1, key, patterns(1, "a{1000}")), policiesOf(1, key, patterns(1, strings.Repeat("a{1000}", 100))), source},
		"nested repetitions":  {policiesOf(1, key, patterns(1, "((a{9}){9}){9}")), policiesOf(1, key, patterns(1, strings.Repeat("((a{9}){9}){9}", 100))), source},
		"expressions":         {policiesOf(5, key, patterns(1, "a{1000}")), policiesOf(20_000, key, patterns(1, "a{1000}")), source},
		"bytes of the source": {policiesOf(1, key, unchanged), policiesOf(1, key, unchanged), source + strings.Repeat("x", maxSource)},
		"classes":             {policiesOf(1, key, patterns(1, `\pL`)), policiesOf(1, key, patterns(1, strings.Repeat(`\pL`, 1000))), source},
		"open repetitions":    {policiesOf(1, key, patterns(1, "(a{9,}){9,}")), policiesOf(1, key, patterns(1, strings.Repeat("(a{30,}){30,}", 100))), source},
	} {
		t.Run(name, func(t *testing.T) {
			verify := func(policies []*v1alpha1.VerificationPolicy, source string) Verdict {
				return NewSet(policies, NewKeys(Sources{Clock: clock.RealClock{}})).Verify(t.Context(), Input{
					Checksum: checksum, Signature: key.sign(checksum, crypto.SHA256), Source: source, NoMatch: Skip,
				})
			}
			if got := verify(tc.most, source); got.Result != Passed {
				t.Errorf("within the limits: got %+v", got.Outcome)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			got := verify(tc.beyond, tc.source)
			runtime.ReadMemStats(&after)
			if got.Result != Failed || got.Reason != PolicyInvalid || got.Mode != Enforce || !strings.Contains(got.Message, errLimit.Error()) {
				t.Errorf("beyond the limits: got %+v", got.Outcome)
			}
			if allocated, took := after.TotalAlloc-before.TotalAlloc, time.Since(start); allocated > 64<<20 || took > 10*time.Second {
				t.Errorf("allocated %d MiB in %v", allocated>>20, took)
			}
		})
	}
}

// With more authorities than are asked, it is not known whether one of them verifies.
func TestAuthorizes_DoesNotKnowBeyondTheLimit(t *testing.T) {
	key, message := newKey(), []byte("message")
	signature := must(base64.StdEncoding.DecodeString(key.sign(message, crypto.SHA256)))
	others := policiesOf(maxCandidates, newKey(), func(*v1alpha1.VerificationPolicy) {})
	last := enforce("zzz", inline(key))
	if known, err := NewSet(append(others[:maxCandidates-1:maxCandidates-1], last), NewKeys(Sources{Clock: clock.RealClock{}})).Authorizes(t.Context(), signature, message); !known || err != nil {
		t.Errorf("within the limit: got %t, %v", known, err)
	}
	if known, err := NewSet(append(others, last), NewKeys(Sources{Clock: clock.RealClock{}})).Authorizes(t.Context(), signature, message); known || err == nil {
		t.Errorf("beyond the limit: got %t, %v", known, err)
	}
}

// A verification with a key of a megabit would take minutes.
func TestVerify_RefusesHugeKeys(t *testing.T) {
	modulus := func(bits int) string {
		n := must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits))))
		n.SetBit(n, bits-1, 1).SetBit(n, 0, 1)
		return string(must(cryptoutils.MarshalPublicKeyToPEM(&rsa.PublicKey{N: n, E: 65537})))
	}
	for bits, want := range map[int]Reason{8 << 10: SignatureInvalid, maxRSA: SignatureInvalid, 32 << 10: PolicyInvalid, 1 << 20: PolicyInvalid} {
		p := enforce("p", &v1alpha1.KeyRef{Data: modulus(bits)})
		start := time.Now()
		got := NewSet([]*v1alpha1.VerificationPolicy{matching(p, ".*")}, NewKeys(Sources{Clock: clock.RealClock{}})).Verify(t.Context(), Input{
			Checksum: make([]byte, 32), Signature: "c2ln", Source: "a", NoMatch: Skip,
		})
		if took := time.Since(start); got.Reason != want || took > 10*time.Second {
			t.Errorf("%d bits: got %s after %v, want %s", bits, got.Reason, took, want)
		}
	}
}
