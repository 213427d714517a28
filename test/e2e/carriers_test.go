// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// carriers do the same with local references: the MutatingAdmissionPolicies of
// config/admission, which need Kubernetes 1.36, and the webhook.
var carriers = map[string]func(*env){
	"policies": (*env).installAdmission,
	"webhook": func(e *env) {
		e.t.Helper()
		webhook, err := cluster.InstallWebhook(e.t.Context())
		if webhook != nil {
			e.cleanup(func() error { return webhook.Remove(cleanupContext()) })
		}
		e.check(err)
	},
}

// gateCarriers hold Pods. The guards, which refuse Pods that Tekton did not create, are not
// installed.
var gateCarriers = map[string]func(*env){"policies": (*env).holdPods, "webhook": carriers["webhook"]}

// holdPods installs the policy that holds Pods, until the test ends.
func (e *env) holdPods() {
	e.t.Helper()
	manifest := filepath.Join(harness.Root(), "config", "admission", "510-hold-pods.yaml")
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "-f", manifest)
		return err
	})
	_, err := cluster.RunKubectl(e.t.Context(), "", "apply", "-f", manifest)
	e.check(err)
	ns := e.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	e.eventually(soon, func() error {
		made, err := cluster.Kube.CoreV1().Pods(ns).Create(e.t.Context(), podOf("TaskRun", "tekton.dev/v1"), dryRunCreate)
		if err == nil && !harness.IsHeld(made) {
			err = errors.New("the policy is not in force")
		}
		return err
	})
}

// The Pods of TaskRuns wait in namespaces that enforce, and no other Pod anywhere.
func TestCarriers_HoldPodsOfTaskRuns(t *testing.T) {
	enforce := map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce}
	ofTaskRun := podOf("TaskRun", "tekton.dev/v1")
	onlyLabelled := ofTaskRun.DeepCopy()
	onlyLabelled.OwnerReferences, onlyLabelled.Labels = nil, map[string]string{"tekton.dev/taskRun": "x"}
	otherGate := ofTaskRun.DeepCopy()
	otherGate.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	gated := ofTaskRun.DeepCopy()
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
	tests := map[string]struct {
		labels map[string]string // of the namespace
		pod    *corev1.Pod
		held   bool
	}{
		"of a TaskRun":               {enforce, ofTaskRun, true},
		"of a TaskRun in v1beta1":    {enforce, podOf("TaskRun", "tekton.dev/v1beta1"), true},
		"with the gate of another":   {enforce, otherGate, true},
		"with our gate":              {enforce, gated, true},
		"of another API":             {enforce, podOf("TaskRun", "example.com/v1"), false},
		"of a StatefulSet":           {enforce, podOf("StatefulSet", "apps/v1"), false},
		"with a label of Tekton":     {enforce, onlyLabelled, false},
		"in a namespace that warns":  {map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyWarn}, ofTaskRun, false},
		"in a namespace that signs":  {map[string]string{v1alpha1.SignLabel: "true"}, ofTaskRun, false},
		"in a namespace without any": {nil, ofTaskRun, false},
	}
	for carrier, install := range gateCarriers {
		t.Run(carrier, func(t *testing.T) {
			e := newEnv(t)
			install(e)
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					e := e.sub(t)
					made, err := cluster.Kube.CoreV1().Pods(e.namespaceLabelled(test.labels)).Create(t.Context(), test.pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
					e.check(err)
					if ours, others := countGates(made); (ours == 1) != test.held || ours > 1 || others != otherGates(test.pod) {
						t.Errorf("got gates %v, want ours: %v", made.Spec.SchedulingGates, test.held)
					}
				})
			}
		})
	}
}

// countGates returns the numbers of our scheduling gates and of others.
func countGates(pod *corev1.Pod) (ours, others int) {
	for _, gate := range pod.Spec.SchedulingGates {
		if gate.Name == v1alpha1.SchedulingGate {
			ours++
		} else {
			others++
		}
	}
	return ours, others
}

func otherGates(pod *corev1.Pod) int {
	_, others := countGates(pod)
	return others
}
