// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// The policies of config/admission that guard Pods, connections and namespaces.
const (
	guardOfPods        = "pods.trustedresources.tekton.dev"
	guardOfConnections = "connections.trustedresources.tekton.dev"
	guardOfNamespaces  = "namespaces.trustedresources.tekton.dev"
)

// attempt is one thing that a hostile editor tries with the Pod of a TaskRun.
type attempt struct {
	name  string
	guard string // the policy that refuses
	try   func(ctx context.Context, as *harness.Cluster, pod *corev1.Pod) error
}

// attempts are refused in an enforced namespace, and accepted in another one, so each
// entry also shows that nothing but the guard refuses. The name of a Pod that is created
// has nothing to do with a TaskRun, except where the entry is about the name.
var attempts = []attempt{
	{"patch the image of a step", guardOfPods, patchPod(`[{"op":"replace","path":"/spec/containers/0/image","value":"evil.example/shell"}]`)},
	{"patch the image of an init container", guardOfPods, patchPod(`[{"op":"replace","path":"/spec/initContainers/0/image","value":"evil.example/shell"}]`)},
	{"start the steps", guardOfPods, patchPod(`[{"op":"add","path":"/metadata/annotations/tekton.dev~1ready","value":"EARLY"}]`)},
	{"cancel the steps", guardOfPods, patchPod(`[{"op":"add","path":"/metadata/annotations/tekton.dev~1cancel","value":"CANCEL"}]`)},
	{"remove the label", guardOfPods, patchPod(`[{"op":"remove","path":"/metadata/labels/tekton.dev~1taskRun"}]`)},
	{"name another TaskRun in the label", guardOfPods, patchPod(`[{"op":"replace","path":"/metadata/labels/tekton.dev~1taskRun","value":"another"}]`)},
	{"name the UID of another TaskRun in the label", guardOfPods, patchPod(`[{"op":"replace","path":"/metadata/labels/tekton.dev~1taskRunUID","value":"another"}]`)},
	{"remove the owner", guardOfPods, patchPod(`[{"op":"remove","path":"/metadata/ownerReferences"}]`)},
	{"replace the owner by another TaskRun", guardOfPods, patchPod(`[{"op":"replace","path":"/metadata/ownerReferences/0/uid","value":"another"}]`)},
	{"add an ephemeral container", guardOfPods, addEphemeralContainer},
	{"exec", guardOfConnections, connect("exec")},
	{"attach", guardOfConnections, connect("attach")},
	{"forward a port", guardOfConnections, connect("portforward")},
	{"use the proxy", guardOfConnections, connect("proxy")},
	{"create a Pod that a TaskRun owns", guardOfPods, createPod(func(forged, pod *corev1.Pod) { forged.OwnerReferences = pod.OwnerReferences })},
	{"create a Pod with the label of the TaskRun and its UID in an owner of another kind", guardOfPods, createPod(func(forged, pod *corev1.Pod) {
		forged.Labels = map[string]string{"tekton.dev/taskRun": pod.Labels["tekton.dev/taskRun"]}
		forged.OwnerReferences = pod.OwnerReferences
		forged.OwnerReferences[0].APIVersion, forged.OwnerReferences[0].Kind = "v1", "ConfigMap"
	})},
	{"create a Pod with the name of a TaskRun's Pod", guardOfPods, createPod(func(forged, _ *corev1.Pod) { forged.Name = "next-pod" })},
	{"create a Pod with the name of a retry", guardOfPods, createPod(func(forged, _ *corev1.Pod) { forged.Name = "next-pod-retry1" })},
	{"give a TaskRun to a Pod that was created without one", guardOfPods, adoptPod},
}

func patchPod(patch string) func(context.Context, *harness.Cluster, *corev1.Pod) error {
	return func(ctx context.Context, as *harness.Cluster, pod *corev1.Pod) error {
		_, err := as.Kube.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.JSONPatchType, []byte(patch), dryRunPatch)
		return err
	}
}

var (
	dryRunPatch  = metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	dryRunCreate = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
)

func addEphemeralContainer(ctx context.Context, as *harness.Cluster, pod *corev1.Pod) error {
	patch := `{"spec":{"ephemeralContainers":[{"name":"debug","image":"busybox","command":["sh"]}]}}`
	_, err := as.Kube.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, []byte(patch), dryRunPatch, "ephemeralcontainers")
	return err
}

// connect asks for a connection without upgrading it. kwok has no containers, so there is
// an error, or no answer, also where nothing refuses.
func connect(subresource string) func(context.Context, *harness.Cluster, *corev1.Pod) error {
	return func(ctx context.Context, as *harness.Cluster, pod *corev1.Pod) error {
		ctx, cancel := context.WithTimeout(ctx, harness.TimeLimit(3*time.Second))
		defer cancel()
		err := as.Kube.CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource(subresource).
			Param("container", pod.Spec.Containers[0].Name).Param("command", "sh").Param("stdout", "true").Do(ctx).Error()
		if err != nil && (strings.Contains(err.Error(), "ValidatingAdmissionPolicy") || strings.Contains(err.Error(), "cannot create resource")) {
			return err
		}
		return nil
	}
}

func createPod(modify func(forged, pod *corev1.Pod)) func(context.Context, *harness.Cluster, *corev1.Pod) error {
	return func(ctx context.Context, as *harness.Cluster, pod *corev1.Pod) error {
		forged := plainPod(pod.Namespace, "forged")
		modify(forged, pod.DeepCopy())
		_, err := as.Kube.CoreV1().Pods(pod.Namespace).Create(ctx, forged, dryRunCreate)
		return err
	}
}

func plainPod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "step-evil", Image: "evil.example/shell", Command: []string{"sh"}}}},
	}
}

// adoptPod creates a Pod that has nothing to do with TaskRuns, and then makes it the
// Pod of one.
func adoptPod(ctx context.Context, as *harness.Cluster, pod *corev1.Pod) error {
	pods := as.Kube.CoreV1().Pods(pod.Namespace)
	if _, err := pods.Create(ctx, plainPod(pod.Namespace, "innocent"), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("an innocent Pod was refused: %w", err)
	}
	owner := pod.OwnerReferences[0]
	patch := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":%q,"kind":%q,"name":%q,"uid":%q,"controller":true}]}}`,
		owner.APIVersion, owner.Kind, owner.Name, owner.UID)
	_, err := pods.Patch(ctx, "innocent", types.MergePatchType, []byte(patch), dryRunPatch)
	return err
}

// The guards hold when no process of ours runs: this test starts none.
func TestGuards_RefuseWhatAnEditorMayDo(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	guarded, free := e.enforced(), e.namespaceLabelled(nil)
	editor := e.hostileIn(guarded, free)
	e.grant(hostile, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods/ephemeralcontainers"}, Verbs: []string{"patch"}})
	e.waitMay(hostile, true, mayPatchEphemeral)
	guardedPod, freePod := e.startRun(guarded), e.startRun(free)
	if !harness.IsHeld(guardedPod) || harness.IsHeld(freePod) {
		t.Fatalf("gates: %v in the enforced namespace, %v in the other", guardedPod.Spec.SchedulingGates, freePod.Spec.SchedulingGates)
	}
	for _, a := range attempts {
		t.Run(a.name, func(t *testing.T) {
			expectGuarded(t, a.try(t.Context(), editor, guardedPod), a.guard)
			if err := a.try(t.Context(), editor, freePod); err != nil {
				t.Errorf("in a namespace without the label: %v", err)
			}
		})
	}
	t.Run("remove the gate", func(t *testing.T) {
		remove := patchPod(`[{"op":"remove","path":"/spec/schedulingGates"}]`)
		for _, user := range []*harness.Cluster{editor, cluster} { // cluster: not even an administrator, by accident
			expectGuarded(t, remove(t.Context(), user, guardedPod), guardOfPods)
		}
		if err := remove(t.Context(), e.as(ownAccount), guardedPod); err != nil {
			t.Errorf("our controller: %v", err)
		}
	})
}

// expectGuarded requires that a policy has refused a request.
func expectGuarded(t *testing.T, err error, guard string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy '"+guard+"'") {
		t.Errorf("in an enforced namespace: got %v, want a refusal by %s", orUnlimited(err), guard)
	}
}

// startRun creates a TaskRun that lasts, and returns its Pod.
func (e *env) startRun(namespace string) *corev1.Pod {
	e.t.Helper()
	run := newTaskRun(namespace, "run", nil, lastingFor(10*time.Minute))
	run.Spec.TaskSpec = &v1.TaskSpec{Steps: []v1.Step{{Name: "only", Image: "alpine", Script: "echo"}}}
	_, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Create(e.t.Context(), run, metav1.CreateOptions{})
	e.check(err)
	return e.podOf(namespace, "run")
}

// podOf waits until a TaskRun has a Pod and returns the Pod.
func (e *env) podOf(namespace, run string) (pod *corev1.Pod) {
	e.t.Helper()
	e.eventually(soon, func() error {
		found, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), run, metav1.GetOptions{})
		if err == nil && found.Status.PodName == "" {
			err = fmt.Errorf("TaskRun %s has no Pod: %+v", run, found.Status.Conditions)
		}
		if err == nil {
			pod, err = cluster.Kube.CoreV1().Pods(namespace).Get(e.t.Context(), found.Status.PodName, metav1.GetOptions{})
		}
		return err
	})
	return pod
}
