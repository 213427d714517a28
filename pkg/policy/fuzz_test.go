// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto"
	"testing"

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
	key := newKey()
	task := &v1.Task{}
	checksum := must(task.Checksum())
	task.Annotations = map[string]string{trustedresources.SignatureAnnotation: key.sign(checksum, crypto.SHA256)}
	f.Fuzz(func(t *testing.T, pattern, source string) {
		policies := []*v1alpha1.VerificationPolicy{matching(enforce("p", inline(key)), pattern)}
		ctx := logging.WithLogger(t.Context(), zap.NewNop().Sugar())
		want := trustedresources.VerifyResource(ctx, task, nil, &v1.RefSource{URI: source}, policies)
		got := NewSet(policies, NewKeys(Sources{Clock: clock.RealClock{}})).Verify(ctx, Input{
			Checksum: checksum, Signature: task.Annotations[trustedresources.SignatureAnnotation], Source: source, NoMatch: Skip,
		})
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
