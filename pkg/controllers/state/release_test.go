// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

type emitted struct{ facts []observe.Fact }

func (e *emitted) Emit(_ context.Context, f observe.Fact) { e.facts = append(e.facts, f) }

func TestFindRelease_TakesTheFirstNamespaceThatHasOne(t *testing.T) {
	const own = "openshift-pipelines"
	for name, tc := range map[string]struct {
		in   []string
		want string
		fact observe.Fact
	}{
		"own":     {[]string{own}, own, observe.ReleaseRefused{}},
		"default": {[]string{tekton.DefaultNamespace}, tekton.DefaultNamespace, observe.ReleaseRefused{}},
		"both":    {[]string{tekton.DefaultNamespace, own}, own, observe.ReleaseRefused{}},
		"none":    {nil, tekton.DefaultNamespace, observe.ReleaseMissing{}},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			for _, namespace := range tc.in {
				if err := client.Tracker().Add(&corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: tekton.InfoConfigMap}, Data: map[string]string{"version": "v0.1.0"},
				}); err != nil {
					t.Fatal(err)
				}
			}
			var e emitted
			s := New(t.Context(), Sources{Emitter: &e})
			if got := s.findRelease(t.Context(), client, []string{own, tekton.DefaultNamespace}); got != tc.want {
				t.Errorf("got namespace %s", got)
			}
			if tooOld := errors.Is(s.release.Load().Check(), tekton.ErrTooOld); tooOld != (len(tc.in) > 0) {
				t.Errorf("release too old: %v", tooOld)
			}
			if len(e.facts) != 1 || fmt.Sprintf("%T", e.facts[0]) != fmt.Sprintf("%T", tc.fact) {
				t.Errorf("emitted %+v, want one %T", e.facts, tc.fact)
			}
		})
	}
}
