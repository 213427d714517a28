// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
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
		in      []string
		want    string
		unknown bool
	}{
		"own":     {[]string{own}, own, false},
		"default": {[]string{tekton.DefaultNamespace}, tekton.DefaultNamespace, false},
		"both":    {[]string{tekton.DefaultNamespace, own}, own, false},
		"none":    {nil, tekton.DefaultNamespace, true},
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
			got := s.findRelease(t.Context(), client, []string{own, tekton.DefaultNamespace})
			if tooOld := s.release.Load().Check() != nil; got != tc.want || tooOld == tc.unknown {
				t.Errorf("got namespace %s, release too old: %v", got, tooOld)
			}
			_, unknown := e.facts[0].(observe.ReleaseUnknown)
			if len(e.facts) != 1 || unknown != tc.unknown {
				t.Errorf("emitted %+v, want an unknown release: %v", e.facts, tc.unknown)
			}
		})
	}
}
