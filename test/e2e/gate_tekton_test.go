// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"testing"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// place is a namespace with signed resources, enforced or not.
type place struct {
	*gated
	ns string
}

// places returns an enforced namespace, and one that is not, with the same resources.
func (g *gated) places() (enforced, free place) {
	g.t.Helper()
	enforced, free = place{g, g.enforced()}, place{g, g.namespaceLabelled(nil)}
	g.createPolicies(free.ns, trusted)
	for _, p := range []place{enforced, free} {
		g.signedTask(p.ns, "plain")
		g.signedTask(p.ns, "sidecar", func(t *v1.Task) {
			t.Spec.Sidecars = []v1.Sidecar{{Name: "server", Image: "alpine", Script: "sleep 1000"}}
		})
		g.signedTask(p.ns, "workspace", func(t *v1.Task) { t.Spec.Workspaces = []v1.WorkspaceDeclaration{{Name: "data"}} })
		g.signedPipeline(p.ns, "one", v1.PipelineTask{Name: "only", TaskRef: p.task("plain")})
		g.signedPipeline(p.ns, "shared",
			v1.PipelineTask{Name: "first", TaskRef: p.task("workspace"), Workspaces: []v1.WorkspacePipelineTaskBinding{{Name: "data"}}},
			v1.PipelineTask{Name: "second", TaskRef: p.task("workspace"), Workspaces: []v1.WorkspacePipelineTaskBinding{{Name: "data"}}, RunAfter: []string{"first"}})
	}
	return enforced, free
}

func (g *gated) signedPipeline(namespace, name string, tasks ...v1.PipelineTask) {
	g.t.Helper()
	p := &v1.Pipeline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: v1.PipelineSpec{
		Tasks: tasks, Finally: []v1.PipelineTask{{Name: "last", TaskRef: place{g, namespace}.task("plain")}},
	}}
	if name == "shared" {
		p.Spec.Workspaces = []v1.PipelineWorkspaceDeclaration{{Name: "data"}}
	}
	g.check(g.signer.Sign(g.t.Context(), p))
	g.createObject(p)
}

func (p place) task(name string) *v1.TaskRef {
	return &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, p.ns, name)}
}

// run creates a TaskRun with the name of its Task.
func (p place) run(task string, modifiers ...func(*v1.TaskRun)) {
	p.t.Helper()
	p.createTaskRun(p.ns, task, p.task(task), modifiers...)
}

// runPipeline creates a PipelineRun with the name of its Pipeline.
func (p place) runPipeline(name string, modifiers ...func(*v1.PipelineRun)) {
	p.t.Helper()
	run := &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.ns, Name: name, Annotations: map[string]string{}},
		Spec:       v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{ResolverRef: harness.ClusterRef(resource.Pipeline, p.ns, name)}},
	}
	for _, modify := range modifiers {
		modify(run)
	}
	_, err := cluster.Tekton.TektonV1().PipelineRuns(p.ns).Create(p.t.Context(), run, metav1.CreateOptions{})
	p.check(err)
}

// ended waits until a TaskRun has ended, and returns how.
func (p place) ended(name string) string {
	p.t.Helper()
	return outcome(p.waitDone(p.ns, name).Status.GetCondition(apis.ConditionSucceeded))
}

func outcome(c *apis.Condition) string {
	if c == nil {
		return "no condition"
	}
	return fmt.Sprintf("%s %s", c.Status, c.Reason)
}

// pipelineEnded waits until a PipelineRun has ended, and returns how, and how its
// TaskRuns ended.
func (p place) pipelineEnded(name string) string {
	p.t.Helper()
	var text string
	p.eventually(afterFailover, func() error {
		run, err := cluster.Tekton.TektonV1().PipelineRuns(p.ns).Get(p.t.Context(), name, metav1.GetOptions{})
		if err == nil && !run.IsDone() {
			err = fmt.Errorf("PipelineRun %s: %+v", name, run.Status.GetCondition(apis.ConditionSucceeded))
		}
		if err != nil {
			return err
		}
		text = outcome(run.Status.GetCondition(apis.ConditionSucceeded))
		for _, child := range run.Status.ChildReferences {
			text += fmt.Sprintf(", %s: %s", child.PipelineTaskName, p.ended(child.Name))
		}
		return nil
	})
	return text
}

// patchOne patches the PipelineRun "one".
func (p place) patchOne(patch string) {
	p.t.Helper()
	_, err := cluster.Tekton.TektonV1().PipelineRuns(p.ns).Patch(p.t.Context(), "one", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	p.check(err)
}

// What Tekton does with runs is the same with and without the gate, but for the wait.
func TestGate_LeavesTektonAsItIs(t *testing.T) {
	e := startController(t)
	e.configure(withProvenance)
	e.installAdmission()
	g := &gated{newMatrix(e)}
	enforced, free := g.places()
	for _, p := range []place{enforced, free} {
		g.provideVolumes(p.ns)
	}
	const succeeded = "True Succeeded"
	for _, tc := range []struct {
		name, want string
		happens    func(p place) string
	}{
		{"sidecar", succeeded, func(p place) string {
			p.run("sidecar")
			return p.ended("sidecar")
		}},
		{"PVC that waits for its first consumer", succeeded, func(p place) string {
			p.claim("data")
			p.run("workspace", func(run *v1.TaskRun) { run.Spec.Workspaces = bound("data") })
			return p.ended("workspace")
		}},
		{"affinity assistant", "True Succeeded, first: True Succeeded, second: True Succeeded, last: True Succeeded", func(p place) string {
			p.claim("shared")
			p.runPipeline("shared", func(run *v1.PipelineRun) { run.Spec.Workspaces = bound("shared") })
			outcome := p.pipelineEnded("shared")
			p.expectAssistant()
			return outcome
		}},
		{"PipelineRunPending", "True Succeeded, only: True Succeeded, last: True Succeeded", func(p place) string {
			p.runPipeline("one", func(run *v1.PipelineRun) { run.Spec.Status = v1.PipelineRunSpecStatusPending })
			p.patchOne(`{"spec":{"status":null}}`)
			return p.pipelineEnded("one")
		}},
		{"CancelledRunFinally", "False Cancelled, only: False TaskRunCancelled, last: True Succeeded", func(p place) string {
			p.deleteOne()
			p.runPipeline("one", func(run *v1.PipelineRun) {
				run.Annotations["kubelet.localcluster/duration"] = "10s" // the task lasts, and so does the last one
			})
			p.podOf(p.ns, "one-only")
			p.patchOne(`{"spec":{"status":"CancelledRunFinally"}}`)
			return p.pipelineEnded("one")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for what, p := range map[string]place{"without the gate": free, "with the gate": enforced} {
				p.gated = &gated{&matrix{env: e.sub(t), signer: g.signer}}
				if got := tc.happens(p); got != tc.want {
					t.Errorf("%s: got %s, want %s", what, got, tc.want)
				}
			}
		})
	}
}

// expectAssistant requires that a Pod of the PipelineRun "shared" was placed beside an
// affinity assistant.
func (p place) expectAssistant() {
	p.t.Helper()
	pod := p.podOf(p.ns, "shared-first")
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.PodAffinity == nil {
		p.t.Errorf("Pod %s has no affinity: %+v", pod.Name, pod.Spec.Affinity)
	}
}

// deleteOne deletes the PipelineRun "one" and waits until the TaskRun and the Pod of its
// task are gone.
func (p place) deleteOne() {
	p.t.Helper()
	const name = "one-only"
	p.check(cluster.Tekton.TektonV1().PipelineRuns(p.ns).Delete(p.t.Context(), "one", metav1.DeleteOptions{}))
	p.eventually(soon, func() error {
		_, err := cluster.Tekton.TektonV1().TaskRuns(p.ns).Get(p.t.Context(), name, metav1.GetOptions{})
		_, podErr := cluster.Kube.CoreV1().Pods(p.ns).Get(p.t.Context(), name+"-pod", metav1.GetOptions{})
		if ignoreNotFound(err) != nil || ignoreNotFound(podErr) != nil {
			return errors.Join(err, podErr)
		}
		if err == nil || podErr == nil {
			return fmt.Errorf("TaskRun %s still exists, or its Pod", name)
		}
		return nil
	})
}

func bound(claim string) []v1.WorkspaceBinding {
	return []v1.WorkspaceBinding{{Name: "data", PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}}
}

// claim creates a PersistentVolumeClaim, whose volume is made when a Pod was scheduled
// that uses it.
func (p place) claim(name string) {
	p.t.Helper()
	class := waitForConsumer
	_, err := cluster.Kube.CoreV1().PersistentVolumeClaims(p.ns).Create(p.t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{pipeline.GroupName + "/test": "yes"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: apiresource.MustParse("1Mi")}},
		},
	}, metav1.CreateOptions{})
	p.check(err)
}
