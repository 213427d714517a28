// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

func TestProblems(t *testing.T) {
	good := inline(newKey())
	for name, tc := range map[string]struct {
		pattern string
		keys    []*v1alpha1.KeyRef
		want    []Problem
	}{
		"good":              {"git.example.com/.*", []*v1alpha1.KeyRef{good}, nil},
		"pattern":           {"(", []*v1alpha1.KeyRef{good}, []Problem{InvalidPattern}},
		"no authority":      {".*", nil, []Problem{NoAuthority}},
		"nil key":           {".*", []*v1alpha1.KeyRef{nil}, []Problem{InvalidKey}},
		"empty key":         {".*", []*v1alpha1.KeyRef{{}}, []Problem{InvalidKey}},
		"no PEM":            {".*", []*v1alpha1.KeyRef{good, {Data: "garbage"}}, []Problem{InvalidKey}},
		"algorithm":         {".*", []*v1alpha1.KeyRef{{Data: good.Data, HashAlgorithm: "md5"}}, []Problem{InvalidKey}},
		"Secret, not read":  {".*", []*v1alpha1.KeyRef{{SecretRef: &corev1.SecretReference{Name: "s"}}}, nil},
		"KMS, not asked":    {".*", []*v1alpha1.KeyRef{{KMS: "hashivault://k"}}, nil},
		"pattern and key":   {"[", []*v1alpha1.KeyRef{nil}, []Problem{InvalidPattern, InvalidKey}},
		"pattern and nokey": {"[", nil, []Problem{InvalidPattern, NoAuthority}},
	} {
		p := &v1alpha1.VerificationPolicy{Spec: v1alpha1.VerificationPolicySpec{Resources: []v1alpha1.ResourcePattern{{Pattern: tc.pattern}}}}
		for _, key := range tc.keys {
			p.Spec.Authorities = append(p.Spec.Authorities, v1alpha1.Authority{Name: "a", Key: key})
		}
		if got := Problems(t.Context(), p); !got.Equal(sets.New(tc.want...)) {
			t.Errorf("%s: got %v, want %v", name, sets.List(got), tc.want)
		}
	}
}
