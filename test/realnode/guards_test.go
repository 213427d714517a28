// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

const hostile = "hostile-editor"

// guarded are two Pods with running containers.
type guarded struct {
	env
	ns, free string            // with and without the label
	pods     map[string]string // by namespace
}

// On a node that runs containers, a user with the ClusterRole edit changes nothing of
// what a verified TaskRun runs. In a namespace without the label, the same commands work.
func TestGuards_KeepAnEditorOutOfContainers(t *testing.T) {
	e := install(t)
	t.Cleanup(func() {
		if err := cluster.RemoveAdmission(context.Background()); err != nil {
			t.Error(err)
		}
	})
	e.check(cluster.InstallAdmission(t.Context()))
	g := guarded{env: e, ns: e.namespace(), free: e.namespace(), pods: map[string]string{}}
	e.kubectl("label", "namespace", g.ns, v1alpha1.VerifyLabel+"="+v1alpha1.VerifyEnforce)
	for _, ns := range []string{g.free, g.ns} {
		e.check(cluster.Trust(t.Context(), ns, installed.public))
		e.kubectl("-n", ns, "create", "rolebinding", hostile, "--clusterrole=edit", "--user="+hostile)
		e.createTask(lastingTask(ns))
		e.waitSigned(ns, "lasts", soon)
		g.pods[ns] = e.running(ns)
	}
	for _, c := range commands {
		t.Run(c.name, func(t *testing.T) { g.sub(t).expectRefused(c) })
	}
	t.Run("ephemeral container", func(t *testing.T) { g.sub(t).expectNoEphemeralContainer() })
	t.Run("log", func(t *testing.T) { g.sub(t).expectLog() })
	t.Run("Tekton ends the sidecar", func(t *testing.T) { g.sub(t).expectSidecarEnds() })
}

func (g guarded) sub(t *testing.T) guarded {
	g.env = env{t: t}
	return g
}

// command is something that an editor does with a Pod.
type command struct {
	name, prints string // prints: where the command is accepted
	args         func(pod string) []string
	// endless commands are not tried where they are accepted.
	endless bool
}

var commands = []command{
	{name: "exec", prints: "hello", args: func(pod string) []string {
		return []string{"exec", pod, "-c", "step-greet", "--", "echo", "hello"}
	}},
	{name: "exec in a sidecar", prints: "hello", args: func(pod string) []string {
		return []string{"exec", pod, "-c", "sidecar-server", "--", "echo", "hello"}
	}},
	{name: "attach", endless: true, args: func(pod string) []string {
		return []string{"attach", pod, "-c", "sidecar-server", "--pod-running-timeout=1s"}
	}},
	{name: "image", prints: "patched", args: func(pod string) []string {
		return []string{"patch", "pod", pod, "--type=json", "--dry-run=server", "-p", `[{"op":"replace","path":"/spec/containers/0/image","value":"alpine"}]`}
	}},
}

func (g guarded) expectRefused(c command) {
	g.t.Helper()
	if !c.endless {
		if out, err := g.asEditor(g.free, c.args(g.pods[g.free])); err != nil || !strings.Contains(out, c.prints) {
			g.t.Errorf("without the label: %q, %v", out, err)
		}
	}
	if out, err := g.asEditor(g.ns, c.args(g.pods[g.ns])); err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") {
		g.t.Errorf("with the label: %q, %v, want a refusal by a policy", out, err)
	}
}

// expectNoEphemeralContainer tries as an administrator, because the ClusterRole edit does
// not allow ephemeral containers at all.
func (g guarded) expectNoEphemeralContainer() {
	g.t.Helper()
	debug := func(ns string) (string, error) {
		return cluster.RunKubectl(g.t.Context(), "", "-n", ns, "debug", g.pods[ns], "--image=busybox", "--target=step-greet", "--", "true")
	}
	if out, err := debug(g.free); err != nil {
		g.t.Errorf("without the label: %q, %v", out, err)
	}
	if out, err := debug(g.ns); err == nil || !strings.Contains(err.Error(), "ephemeral containers") {
		g.t.Errorf("with the label: %q, %v, want a refusal", out, err)
	}
}

func (g guarded) expectLog() {
	g.t.Helper()
	g.eventually(soon, func() error {
		out, err := g.asEditor(g.ns, []string{"logs", g.pods[g.ns], "-c", "step-greet"})
		if err == nil && !strings.Contains(out, "working") {
			err = fmt.Errorf("the log is %q", out)
		}
		return err
	})
}

// expectSidecarEnds requires that Tekton can replace the image of the sidecar, which does
// not end otherwise. The new image has no shell for the script, so the Pod counts as failed.
func (g guarded) expectSidecarEnds() {
	g.t.Helper()
	if run := g.finished(g.ns); !succeeded(run).IsTrue() {
		g.t.Errorf("the TaskRun: %+v", run.Status.Conditions)
	}
	g.eventually(afterStart, func() error {
		pod, err := cluster.Kube.CoreV1().Pods(g.ns).Get(g.t.Context(), g.pods[g.ns], metav1.GetOptions{})
		if err != nil {
			return err
		}
		isSidecar := func(c corev1.Container) bool { return c.Name == "sidecar-server" }
		i := slices.IndexFunc(pod.Spec.Containers, isSidecar)
		if i < 0 || pod.Spec.Containers[i].Image == "busybox" || pod.Status.Phase == corev1.PodRunning {
			return fmt.Errorf("Pod %s is %s, containers %+v", pod.Name, pod.Status.Phase, pod.Spec.Containers)
		}
		return nil
	})
}

// lastingTask returns a Task that gives the test time, with a sidecar that does not end
// by itself.
func lastingTask(namespace string) *v1.Task {
	lasts := task(namespace, "lasts", `echo working; sleep 45; printf done > "$(results.greeting.path)"`)
	lasts.Spec.Sidecars = []v1.Sidecar{{Name: "server", Image: "busybox", Script: "sleep 1000"}}
	return lasts
}

// running starts a TaskRun and waits until its containers run. It returns its Pod.
func (e env) running(namespace string) string {
	e.t.Helper()
	_, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Create(e.t.Context(), &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Name: "lasts"},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "lasts"}}, // config/admission adds the resolver
	}, metav1.CreateOptions{})
	e.check(err)
	const pod = "lasts-pod"
	e.eventually(afterStart, func() error {
		found, err := cluster.Kube.CoreV1().Pods(namespace).Get(e.t.Context(), pod, metav1.GetOptions{})
		if err == nil && found.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("Pod %s is %s, gates %v", pod, found.Status.Phase, found.Spec.SchedulingGates)
		}
		return err
	})
	return pod
}

func (e env) finished(namespace string) *v1.TaskRun {
	e.t.Helper()
	var run *v1.TaskRun
	e.eventually(afterStart, func() error {
		var err error
		run, err = cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), "lasts", metav1.GetOptions{})
		if err == nil && !run.IsDone() {
			err = fmt.Errorf("TaskRun lasts: %+v", succeeded(run))
		}
		return err
	})
	return run
}

// asEditor runs kubectl as a user with the ClusterRole edit in the namespace.
func (e env) asEditor(namespace string, args []string) (string, error) {
	e.t.Helper()
	return cluster.RunKubectl(e.t.Context(), "", append([]string{"--as", hostile, "-n", namespace}, args...)...)
}
