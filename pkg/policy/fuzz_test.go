// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"go.uber.org/zap"
	"k8s.io/utils/clock"
	"knative.dev/pkg/logging"
)

// Patterns match the same sources as in Tekton, and the same patterns are invalid.
func FuzzPattern(f *testing.F) {
	for _, pattern := range []string{"", "^", "$", "^$", "^a|b$", "a|b", "https://git.example/.*", "(", `\$`, `^.*\$`, "(?i)A", ")|(?:.*", ".", "a.", ".*", "a/.*", "..*"} {
		for _, source := range []string{"", "a", "ax", "xb", "git+https://git.example/catalog", " a\n", "$", "a\nb", "é", "a\xff"} {
			f.Add(pattern, source)
		}
	}
	f.Add(strings.Repeat("a{1000}", 100), strings.Repeat("a", 1000))
	f.Add(strings.Repeat("(", 300)+"a{9}"+strings.Repeat("){1,2}", 300), "a")
	key := newKey()
	task := &v1.Task{}
	checksum := must(task.Checksum())
	task.Annotations = map[string]string{trustedresources.SignatureAnnotation: key.sign(checksum, crypto.SHA256)}
	f.Fuzz(func(t *testing.T, pattern, source string) {
		if len(pattern)+len(source) > 64<<10 {
			return // Tekton's verifier has no bound
		}
		policies := []*v1alpha1.VerificationPolicy{matching(enforce("p", inline(key)), pattern)}
		ctx := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
		want := trustedresources.VerifyResource(ctx, task, nil, &v1.RefSource{URI: source}, policies)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		got := NewSet(policies, NewKeys(Sources{Clock: clock.RealClock{}})).Verify(ctx, Input{
			Checksum: checksum, Signature: task.Annotations[trustedresources.SignatureAnnotation], Source: source, NoMatch: Skip,
		})
		runtime.ReadMemStats(&after)
		if allocated, took := after.TotalAlloc-before.TotalAlloc, time.Since(start); allocated > 64<<20 || took > 10*time.Second {
			t.Fatalf("pattern %q allocated %d MiB in %v", pattern, allocated>>20, took)
		}
		if strings.Contains(got.Message, errLimit.Error()) {
			if got.Result != Failed || got.Reason != PolicyInvalid {
				t.Fatalf("pattern %q is beyond the limits: got %+v", pattern, got)
			}
			return
		}
		if got.Tekton() != want.VerificationResultType {
			t.Fatalf("pattern %q, source %q: got %+v, Tekton's is %s (%v)",
				pattern, source, got, resultNames[want.VerificationResultType], want.Err)
		}
	})
}

// For any value of the signature, the verdict agrees with Tekton's. It has a reason
// or a key ID.
func FuzzVerdict(f *testing.F) {
	key, other := newKey(), newRSA()
	task := &v1.Task{}
	checksum := must(task.Checksum())
	for _, k := range []keyPair{key, other, newKey()} {
		good := k.sign(checksum, crypto.SHA256)
		for _, seed := range []string{good, good + "\n", good[:len(good)/2], good + good} {
			f.Add(seed, false)
			f.Add(seed, true)
		}
	}
	f.Add("", false)
	f.Add("!", true)
	f.Fuzz(func(t *testing.T, signature string, onlyWarn bool) {
		p := enforce("p", inline(key), inline(other))
		if onlyWarn {
			p = warn("p", inline(key), inline(other))
		}
		policies := []*v1alpha1.VerificationPolicy{p}
		ctx := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
		task := &v1.Task{}
		task.Annotations = map[string]string{trustedresources.SignatureAnnotation: signature}
		want := trustedresources.VerifyResource(ctx, task, nil, nil, policies)
		got := NewSet(policies, NewKeys(Sources{Clock: clock.RealClock{}})).Verify(ctx, Input{Checksum: checksum, Signature: signature, NoMatch: Skip})
		if got.Tekton() != want.VerificationResultType {
			t.Fatalf("%q: got %+v, Tekton's is %s (%v)", signature, got, resultNames[want.VerificationResultType], want.Err)
		}
		if passed := got.Result == Passed; passed != (got.Reason == "") || passed != (got.KeyID == key.id() || got.KeyID == other.id()) {
			t.Fatalf("%q: got %+v", signature, got)
		}
	})
}
