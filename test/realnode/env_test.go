// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"context"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	// soon is the time limit for what needs no new container.
	soon = 30 * time.Second
	// afterStart is the time limit for what needs new containers.
	afterStart = 2 * time.Minute
	// afterKubelet is the time limit for what the kubelet does in its own rhythm: it
	// replaces the files of a Secret, and acts on failed probes.
	afterKubelet = 4 * time.Minute
)

// env is what one test works with.
type env struct{ t *testing.T }

func (e env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// eventually polls until check returns nil. Otherwise the test fails with the last
// error of check.
func (e env) eventually(within time.Duration, check func() error) {
	e.t.Helper()
	e.check(harness.Eventually(e.t.Context(), within, func(context.Context) error { return check() }))
}

// kubectl runs kubectl as the administrator and returns its output.
func (e env) kubectl(args ...string) string {
	e.t.Helper()
	out, err := cluster.RunKubectl(e.t.Context(), "", args...)
	e.check(err)
	return out
}

// namespace creates an opted-in namespace that is deleted when the test ends.
func (e env) namespace() string {
	e.t.Helper()
	ns, err := cluster.Kube.CoreV1().Namespaces().Create(e.t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: map[string]string{v1alpha1.SignLabel: "true"}},
	}, metav1.CreateOptions{})
	e.check(err)
	e.t.Cleanup(func() {
		if err := cluster.Kube.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			e.t.Error(err)
		}
	})
	e.eventually(soon, func() error { // a Pod needs this ServiceAccount
		_, err := cluster.Kube.CoreV1().ServiceAccounts(ns.Name).Get(e.t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// task returns a Task whose only step runs a script in a shell.
func task(namespace, name, script string) *v1.Task {
	return &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1.TaskSpec{
			Results: []v1.TaskResult{{Name: "greeting"}},
			Steps:   []v1.Step{{Name: "greet", Image: "busybox", Script: script}},
		},
	}
}

// createTask creates a Task.
func (e env) createTask(task *v1.Task) {
	e.t.Helper()
	_, err := cluster.Tekton.TektonV1().Tasks(task.Namespace).Create(e.t.Context(), task, metav1.CreateOptions{})
	e.check(err)
}

// signed returns nil if Tekton's verifier accepts the signature of a Task with the
// current key.
func (e env) signed(namespace, name string) error {
	task, err := cluster.Tekton.TektonV1().Tasks(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return harness.Verify(e.t.Context(), task, installed.public)
}

// waitSigned waits until a Task is signed with the current key.
func (e env) waitSigned(namespace, name string, within time.Duration) {
	e.t.Helper()
	e.eventually(within, func() error { return e.signed(namespace, name) })
}
