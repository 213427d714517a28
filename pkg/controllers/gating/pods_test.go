// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func heldPod(owner metav1.OwnerReference) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "pod", UID: "pod", OwnerReferences: []metav1.OwnerReference{owner}, Annotations: map[string]string{"large": "text"}},
		Spec: corev1.PodSpec{
			Containers:      []corev1.Container{{Name: "step", Env: []corev1.EnvVar{{Name: "PASSWORD", Value: "secret"}}}},
			SchedulingGates: []corev1.PodSchedulingGate{{Name: "example.com/other"}, {Name: v1alpha1.SchedulingGate}},
		},
	}
}

func ownedBy(apiVersion, kind string, controller bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: "run", UID: "run", Controller: &controller}
}

// The cache keeps what a decision needs. It keeps no content, which may be large, or
// contain secrets.
func TestStripped_KeepsWhatADecisionNeeds(t *testing.T) {
	pod := heldPod(ownedBy("tekton.dev/v1", "TaskRun", true))
	kept, err := stripped(pod)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // client-go may transform an item twice
		if kept, err = stripped(kept); err != nil {
			t.Fatal(err)
		}
	}
	got, ok := kept.(*corev1.Pod)
	if !ok || got.UID != pod.UID || gateAt(got) != 1 || len(got.Spec.Containers) > 0 || len(got.Annotations) > 0 {
		t.Errorf("got %+v", kept)
	}
	if key, ok := taskRunOf(got); !ok || key != (types.NamespacedName{Namespace: "ns", Name: "run"}) {
		t.Errorf("the TaskRun is %v", key)
	}
}

func TestTaskRunOf_NeedsTheController(t *testing.T) {
	for name, owner := range map[string]metav1.OwnerReference{
		"no controller":  ownedBy("tekton.dev/v1", "TaskRun", false),
		"another kind":   ownedBy("tekton.dev/v1", "PipelineRun", true),
		"another group":  ownedBy("example.com/v1", "TaskRun", true),
		"group as start": ownedBy("tekton.development/v1", "TaskRun", true),
	} {
		if key, ok := taskRunOf(heldPod(owner)); ok {
			t.Errorf("%s: the Pod belongs to %v", name, key)
		}
	}
}

func TestBounded_KeepsTextsValid(t *testing.T) {
	for _, text := range []string{"short", strings.Repeat("é", maxStatusMessage)} {
		got := bounded(text)
		if len(got) > maxStatusMessage || !utf8.ValidString(got) || !strings.HasPrefix(text, got) {
			t.Errorf("got %d bytes of %d", len(got), len(text))
		}
	}
}
