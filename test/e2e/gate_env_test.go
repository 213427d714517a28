// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// gated is an environment in which Pods of TaskRuns are held.
type gated struct{ *matrix }

func startGated(t *testing.T) *gated {
	t.Helper()
	e := startController(t)
	e.configure(withProvenance)
	return newGated(e)
}

func newGated(e *env) *gated {
	e.t.Helper()
	e.installGate()
	return &gated{newMatrix(e)}
}

func (e *env) installGate() {
	e.t.Helper()
	e.cleanup(func() error { return cluster.RemoveGate(cleanupContext()) })
	e.check(cluster.InstallGate(e.t.Context()))
}

// enforced creates a namespace with a policy that trusts the signer, and with the gate.
func (g *gated) enforced() string {
	g.t.Helper()
	ns := g.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	g.createPolicies(ns, trusted)
	return ns
}

// signedTask creates a Task with a good signature.
func (g *gated) signedTask(namespace, name string, modifiers ...func(*v1.Task)) {
	g.t.Helper()
	task := newTask(namespace, name, modifiers...)
	g.check(g.signer.Sign(g.t.Context(), task))
	g.createTask(task)
}

// started records the Pods of a namespace that were scheduled: containers start on a
// node only.
type started struct {
	mu   sync.Mutex
	pods []string
}

func (e *env) recordStarted(namespace string) *started {
	e.t.Helper()
	watcher, err := cluster.Kube.CoreV1().Pods(namespace).Watch(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	e.t.Cleanup(watcher.Stop)
	s := &started{}
	go func() {
		for change := range watcher.ResultChan() {
			if pod, ok := change.Object.(*corev1.Pod); ok && pod.Spec.NodeName != "" {
				s.add(pod.Name)
			}
		}
	}()
	return s
}

func (s *started) add(pod string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.pods, pod) {
		s.pods = append(s.pods, pod)
	}
}

func (s *started) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.pods))
}

// waitDone waits until a TaskRun has ended.
func (e *env) waitDone(namespace, name string) *v1.TaskRun {
	e.t.Helper()
	var run *v1.TaskRun
	e.eventually(soon, func() error {
		var err error
		run, err = cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
		if err == nil && !run.IsDone() {
			err = fmt.Errorf("TaskRun %s/%s: %+v", namespace, name, run.Status.GetCondition(apis.ConditionSucceeded))
		}
		return err
	})
	return run
}

// expectHeldBack requires that the gate has refused a TaskRun, with a message that
// contains all texts.
func (e *env) expectHeldBack(run *v1.TaskRun, texts ...string) {
	e.t.Helper()
	c := run.Status.GetCondition(apis.ConditionSucceeded)
	if !c.IsFalse() || c.Reason != v1.TaskRunReasonCancelled.String() || !containsAll(c.Message, texts) {
		e.t.Errorf("%s: got %s %s: %s; want it cancelled with %q", run.Name, c.Status, c.Reason, c.Message, texts)
	}
}

// heldPod waits until the Pod of a TaskRun is held.
func (e *env) heldPod(namespace, taskRun string) *corev1.Pod {
	e.t.Helper()
	var found *corev1.Pod
	e.eventually(soon, func() error {
		pods, err := cluster.Kube.CoreV1().Pods(namespace).List(e.t.Context(), metav1.ListOptions{LabelSelector: "tekton.dev/taskRun=" + taskRun})
		if err != nil {
			return err
		}
		for i := range pods.Items {
			if harness.IsHeld(&pods.Items[i]) {
				found = &pods.Items[i]
				return nil
			}
		}
		return fmt.Errorf("TaskRun %s/%s has %d Pods, none of them held", namespace, taskRun, len(pods.Items))
	})
	return found
}
