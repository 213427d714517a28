// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func TestReference_NeedsResolver(t *testing.T) {
	stored := func(name, resolver string) *Reference { return &Reference{name, resolver} }
	for name, tc := range map[string]struct {
		after  Reference
		before *Reference
		want   bool
	}{
		"create, local":                        {Reference{"x", ""}, nil, true},
		"create, with a resolver":              {Reference{"", "git"}, nil, false},
		"create, name and resolver":            {Reference{"x", "git"}, nil, false},
		"create, no reference":                 {Reference{}, nil, false},
		"update, applied again":                {Reference{"x", "cluster"}, stored("", "cluster"), true},
		"update, resolver removed":             {Reference{"x", ""}, stored("", "cluster"), true},
		"update, another resolver":             {Reference{"x", "git"}, stored("", "git"), false},
		"update, run from before the policy":   {Reference{"x", ""}, stored("x", ""), false},
		"update, reference was and is nothing": {Reference{}, stored("", ""), false},
	} {
		if got := tc.after.NeedsResolver(tc.before); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}

func TestMustWait(t *testing.T) {
	yes, no := true, false
	owned := func(apiVersion, kind string, controller *bool, gates ...string) *corev1.Pod {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Controller: controller}}}}
		for _, gate := range gates {
			pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: gate})
		}
		return pod
	}
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"of a TaskRun":                  {owned("tekton.dev/v1", "TaskRun", &yes), true},
		"of a TaskRun in v1beta1":       {owned("tekton.dev/v1beta1", "TaskRun", &yes), true},
		"with the gate of another":      {owned("tekton.dev/v1", "TaskRun", &yes, "example.com/quota"), true},
		"with our gate":                 {owned("tekton.dev/v1", "TaskRun", &yes, v1alpha1.SchedulingGate), false},
		"of a TaskRun of another API":   {owned("tekton.dev.example.com/v1", "TaskRun", &yes), false},
		"owned, but not controlled":     {owned("tekton.dev/v1", "TaskRun", &no), false},
		"owned by an unclear owner":     {owned("tekton.dev/v1", "TaskRun", nil), false},
		"of a StatefulSet":              {owned("apps/v1", "StatefulSet", &yes), false},
		"of nobody, but with the label": {&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"tekton.dev/taskRun": "x"}}}, false},
	} {
		if got := MustWait(tc.pod); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
