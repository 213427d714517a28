// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/kmeta"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// forgeries are the Pods that Tekton takes for the Pod of a TaskRun, although it did not
// create them. The TaskRun then has the results of such a Pod.
var forgeries = map[string]func(*v1.TaskRun) *corev1.Pod{
	"name": func(run *v1.TaskRun) *corev1.Pod { return watchedPod(run.Namespace, run.Name+"-pod") },
	// The garbage collector deletes a Pod whose owner does not exist, but not if it does
	// not know the kind.
	"label and UID": func(run *v1.TaskRun) *corev1.Pod {
		pod := watchedPod(run.Namespace, "anything")
		pod.Labels["tekton.dev/taskRun"] = run.Name
		isController := true
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "example.dev/v1", Kind: "Any", Name: "none", UID: run.UID, Controller: &isController}}
		return pod
	},
	"label and owner": func(run *v1.TaskRun) *corev1.Pod {
		pod := watchedPod(run.Namespace, "owned")
		pod.Labels["tekton.dev/taskRun"] = run.Name
		pod.OwnerReferences = []metav1.OwnerReference{*kmeta.NewControllerRef(run)}
		return pod
	},
}

// watchedPod returns a Pod with the label of the Pods that Tekton watches, which Tekton
// does not have to tell when to begin.
func watchedPod(namespace, name string) *corev1.Pod {
	pod := plainPod(namespace, name)
	pod.Labels = map[string]string{v1.ManagedByLabelKey: "anybody"}
	pod.Annotations = map[string]string{"tekton.dev/ready": "READY"}
	return pod
}

// Without the guards, whoever may create Pods decides what a TaskRun of a signed Task
// runs. If the first part of a subtest fails, Tekton does not take such a Pod any more.
func TestGuards_KeepForgedPodsFromTekton(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	guarded, free := e.enforced(), e.namespaceLabelled(nil)
	editor := e.hostileIn(guarded, free)
	for what, forge := range forgeries {
		t.Run(what, func(t *testing.T) {
			e := e.sub(t)
			run := e.createPending(editor, free, what)
			forged, err := editor.Kube.CoreV1().Pods(free).Create(t.Context(), forge(run), metav1.CreateOptions{})
			e.check(err)
			e.begin(editor, run)
			if pod := e.podOf(free, run.Name); pod.UID != forged.UID {
				t.Errorf("without the guards, Tekton uses Pod %s and not the forged %s", pod.Name, forged.Name)
			}

			run = e.createPending(editor, guarded, what)
			_, err = editor.Kube.CoreV1().Pods(guarded).Create(t.Context(), forge(run), metav1.CreateOptions{})
			expectGuarded(t, err, guardOfPods)
			e.begin(editor, run)
			if pod := e.podOf(guarded, run.Name); !harness.IsHeld(pod) || !metav1.IsControlledBy(pod, run) {
				t.Errorf("Pod %s is not a held Pod of TaskRun %s: %+v", pod.Name, run.Name, pod.ObjectMeta)
			}
		})
	}
}

// createPending creates a TaskRun that waits for begin.
func (e *env) createPending(as *harness.Cluster, namespace, what string) *v1.TaskRun {
	e.t.Helper()
	run := newTaskRun(namespace, fmt.Sprintf("run-%d", len(what)), nil)
	run.Spec.Status = v1.TaskRunSpecStatusPending
	run.Spec.TaskSpec = &v1.TaskSpec{Steps: []v1.Step{{Name: "only", Image: "alpine", Script: "echo"}}}
	run, err := as.Tekton.TektonV1().TaskRuns(namespace).Create(e.t.Context(), run, metav1.CreateOptions{})
	e.check(err)
	return run
}

func (e *env) begin(as *harness.Cluster, run *v1.TaskRun) {
	e.t.Helper()
	_, err := as.Tekton.TektonV1().TaskRuns(run.Namespace).Patch(e.t.Context(), run.Name, types.MergePatchType,
		[]byte(`{"spec":{"status":null}}`), metav1.PatchOptions{})
	e.check(err)
}
