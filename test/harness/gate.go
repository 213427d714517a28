// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// InstallGate applies the policy that holds the Pods of TaskRuns, and waits until the
// API server uses the policy.
func (c *Cluster) InstallGate(ctx context.Context) error {
	if _, err := c.RunKubectl(ctx, "", "apply", "-f", gateManifest()); err != nil {
		return err
	}
	return c.waitGate(ctx, true)
}

// RemoveGate deletes the policy and waits until the API server does not use it any more.
func (c *Cluster) RemoveGate(ctx context.Context) error {
	if _, err := c.RunKubectl(ctx, "", "delete", "--ignore-not-found", "-f", gateManifest()); err != nil {
		return err
	}
	return c.waitGate(ctx, false)
}

func gateManifest() string {
	return filepath.Join(Root(), "config", "admission", "510-hold-pods.yaml")
}

// waitGate waits until the Pod of a TaskRun is held, or not held. The Pods are dry runs.
func (c *Cluster) waitGate(ctx context.Context, want bool) (err error) {
	namespaces := c.Kube.CoreV1().Namespaces()
	ns, err := namespaces.Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "gate-", Labels: map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, namespaces.Delete(ctx, ns.Name, metav1.DeleteOptions{})) }()
	var got string
	err = wait.PollUntilContextTimeout(ctx, PollInterval, admissionTimeout, true, func(ctx context.Context) (bool, error) {
		pod, err := c.Kube.CoreV1().Pods(ns.Name).Create(ctx, PodOfTaskRun("dry-run"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		got = fmt.Sprintf("held: %v, error %v", IsHeld(pod), err)
		return err == nil && IsHeld(pod) == want, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until Pods of TaskRuns are held (%v): %w; at last %s", want, err, got)
	}
	return nil
}

// PodOfTaskRun returns a Pod that a TaskRun seems to control.
func PodOfTaskRun(name string) *corev1.Pod {
	isController := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "tekton.dev/v1", Kind: "TaskRun", Name: name, UID: "0f9ed4ad-7c5c-4e4c-8f1c-000000000000", Controller: &isController,
		}}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "step-any", Image: "alpine"}}},
	}
}

// IsHeld reports whether a Pod waits for the gate.
func IsHeld(pod *corev1.Pod) bool {
	return pod != nil && slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool {
		return g.Name == v1alpha1.SchedulingGate
	})
}
