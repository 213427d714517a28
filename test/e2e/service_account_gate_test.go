// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

const (
	limitsOfPods       = "pods.service-account.trustedresources.tekton.dev"
	limitsOfConfigMaps = "configmaps.service-account.trustedresources.tekton.dev"
	limitsOfNamespaces = "namespaces.service-account.trustedresources.tekton.dev"
)

var pods = corev1.SchemeGroupVersion.WithResource("pods")

// refusedOnPods are JSON patches of a Pod with the gates of createTwiceHeld. A Pod that has
// gates can be changed in more ways than others.
var refusedOnPods = []limitedPatch{
	{"image", `[{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`},
	{"both gates", `[{"op":"remove","path":"/spec/schedulingGates"}]`},
	{"the other gate", `[{"op":"remove","path":"/spec/schedulingGates/1"}]`},
	{"gate and image", `[` + removeFirstGate + `,{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`},
	{"gate and label", `[` + removeFirstGate + `,{"op":"add","path":"/metadata/labels","value":{"new":"label"}}]`},
	{"node selector", `[{"op":"add","path":"/spec/nodeSelector","value":{"a":"b"}}]`},
	{"deadline", `[{"op":"add","path":"/spec/activeDeadlineSeconds","value":5}]`},
	{"annotation", `[{"op":"add","path":"/metadata/annotations","value":{"new":"annotation"}}]`},
	{"finalizer", `[{"op":"add","path":"/metadata/finalizers","value":["example.com/new"]}]`},
	{"owner", `[{"op":"add","path":"/metadata/ownerReferences","value":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"x"}]}]`},
}

const removeFirstGate = `{"op":"remove","path":"/spec/schedulingGates/0"}`

// createTwiceHeld creates a Pod with our gate and another one.
func (e *env) createTwiceHeld(namespace string) {
	e.t.Helper()
	_, err := cluster.Kube.CoreV1().Pods(namespace).Create(e.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "limited"},
		Spec: corev1.PodSpec{
			Containers:      []corev1.Container{{Name: "any", Image: "alpine"}},
			SchedulingGates: []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}, {Name: "example.com/other"}},
		},
	}, metav1.CreateOptions{})
	e.check(err)
}

// With the token of the controller and every permission, a thief can remove our gate of a
// Pod, and nothing else.
func TestServiceAccount_RemovesTheGateOnly(t *testing.T) {
	e := newEnv(t)
	ns := e.namespaceLabelled(nil)
	e.createTwiceHeld(ns)
	e.bindClusterAdmin()
	thief := e.asServiceAccount().Resource(pods).Namespace(ns)
	patch := func(p string) error {
		_, err := thief.Patch(t.Context(), "limited", types.JSONPatchType, []byte(p), metav1.PatchOptions{})
		return err
	}
	e.eventually(soon, func() error { // the binding and the policy come into force
		_, err := thief.Patch(t.Context(), "limited", types.MergePatchType, []byte(`{"metadata":{"labels":{"probe":"yes"}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil || !containsAll(err.Error(), []string{limitsOfPods}) {
			return fmt.Errorf("a label was changed with the result %w", orUnlimited(err))
		}
		return nil
	})
	for _, p := range refusedOnPods {
		expectLimited(t, p.name, patch(p.patch), limitsOfPods)
	}
	expectLimited(t, "deleted", thief.Delete(t.Context(), "limited", metav1.DeleteOptions{}), limitsOfPods)
	found, err := thief.Get(t.Context(), "limited", metav1.GetOptions{})
	e.check(err)
	_, err = thief.UpdateStatus(t.Context(), found, metav1.UpdateOptions{})
	expectLimited(t, "status", err, limitsOfPods)
	found.SetName("created")
	found.SetResourceVersion("")
	_, err = thief.Create(t.Context(), found, metav1.CreateOptions{})
	expectLimited(t, "created", err, limitsOfPods)
	e.check(patch(`[` + removeFirstGate + `]`))
}

// The account may cancel a TaskRun, with a message, and do nothing else to its spec.
func TestServiceAccount_CancelsTaskRunsWithMessageOnly(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.check(g.controller.Stop(t.Context()))
	g.signedTask(ns, "build")
	g.createTaskRun(ns, "run", &v1.TaskRef{Name: "build"})
	g.heldPod(ns, "run")
	account := g.asServiceAccount()
	g.waitLimited(ns, account)
	runs := account.Resource(taskRuns).Namespace(ns)
	for _, p := range []limitedPatch{
		{"cancelled without a message", `{"spec":{"status":"TaskRunCancelled"}}`},
		{"message", `{"spec":{"statusMessage":"x"}}`},
		{"cancelled beside a label", `{"metadata":{"labels":{"new":"label"}},"spec":{"status":"TaskRunCancelled","statusMessage":"x"}}`},
	} {
		_, err := runs.Patch(t.Context(), "run", types.MergePatchType, []byte(p.patch), metav1.PatchOptions{})
		if err == nil {
			t.Errorf("%s: accepted", p.name)
		}
	}
	_, err := runs.Patch(t.Context(), "run", types.MergePatchType, []byte(`{"spec":{"status":"TaskRunCancelled","statusMessage":"because"}}`), metav1.PatchOptions{})
	g.check(err)
	g.expectHeldBack(g.waitDone(ns, "run"), "because")
	for _, p := range []limitedPatch{
		{"another message", `{"spec":{"statusMessage":"other"}}`},
		{"not cancelled any more", `{"spec":{"status":null,"statusMessage":null}}`},
	} {
		_, err := runs.Patch(t.Context(), "run", types.MergePatchType, []byte(p.patch), metav1.PatchOptions{})
		expectLimited(t, p.name, err, limitsOfRuns)
	}
}

// The account writes the ConfigMap of ClusterVerificationPolicies, and no other one beside it.
func TestServiceAccount_WritesOneConfigMapOnly(t *testing.T) {
	e := newEnv(t)
	const name = v1alpha1.ClusterPoliciesConfigMap
	own := e.as(ownAccount).Kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace)
	remove := func() error {
		return ignoreNotFound(cluster.Kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace).Delete(cleanupContext(), name, metav1.DeleteOptions{}))
	}
	e.check(remove())
	e.cleanup(remove)
	create := func(name string) error {
		_, err := own.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	e.check(create(name))
	found, err := own.Get(t.Context(), name, metav1.GetOptions{})
	e.check(err)
	_, err = own.Update(t.Context(), found, metav1.UpdateOptions{})
	e.check(err)
	named := metav1.ListOptions{FieldSelector: "metadata.name=" + name}
	_, err = own.List(t.Context(), named)
	e.check(err)
	watcher, err := own.Watch(t.Context(), named)
	e.check(err)
	watcher.Stop()

	expectLimited(t, "created another one", create("other"), limitsOfConfigMaps)
	if err := own.Delete(t.Context(), name, metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("deleted: %v", orUnlimited(err))
	}
	if _, err := own.List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("listed all: %v", orUnlimited(err))
	}
	if _, err := own.Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("read another one: %v", orUnlimited(err))
	}
	e.bindClusterAdmin()
	e.eventually(soon, func() error { // the binding comes into force
		_, err := own.List(t.Context(), metav1.ListOptions{})
		return err
	})
	expectLimited(t, "deleted", own.Delete(t.Context(), name, metav1.DeleteOptions{}), limitsOfConfigMaps)
	_, err = own.Patch(t.Context(), "kube-root-ca.crt", types.MergePatchType, []byte(`{"data":{"x":"y"}}`), metav1.PatchOptions{})
	expectLimited(t, "changed another one", err, limitsOfConfigMaps)
	if _, err := e.hostileIn(e.namespaceLabelled(nil)).Kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace).Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("an editor of another namespace reads it: %v", orUnlimited(err))
	}
}

// The account writes two annotations of one namespace.
func TestServiceAccount_WritesTheSelectorsOnly(t *testing.T) {
	e := newEnv(t)
	e.writeSelectors(nil) // removed when the test ends
	other := e.namespaceLabelled(nil)
	own := e.as(ownAccount).Kube.CoreV1().Namespaces()
	patch := func(namespace, patch string) error {
		_, err := own.Patch(t.Context(), namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return err
	}
	const selectors = `{"metadata":{"annotations":{"trustedresources.tekton.dev/enforced":"stage In prod","trustedresources.tekton.dev/cluster-policies":"1"}}}`
	e.check(patch(v1alpha1.PoliciesNamespace, selectors))
	for _, p := range []limitedPatch{
		{"the label of the gate", `{"metadata":{"labels":{"trustedresources.tekton.dev/verify":null}}}`},
		{"another label", `{"metadata":{"labels":{"a":"b"}}}`},
		{"another annotation", `{"metadata":{"annotations":{"a":"b"}}}`},
		{"a finalizer", `{"metadata":{"finalizers":["a.example/b"]}}`},
	} {
		expectLimited(t, p.name, patch(v1alpha1.PoliciesNamespace, p.patch), limitsOfNamespaces)
	}
	if err := patch(other, selectors); !apierrors.IsForbidden(err) {
		t.Errorf("another namespace: %v", orUnlimited(err))
	}
	e.bindClusterAdmin()
	e.eventually(soon, func() error { // the binding comes into force
		_, err := own.Get(t.Context(), other, metav1.GetOptions{})
		return err
	})
	expectLimited(t, "another namespace", patch(other, selectors), limitsOfNamespaces)
	_, err := own.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "created"}}, metav1.CreateOptions{})
	expectLimited(t, "created", err, limitsOfNamespaces)
	expectLimited(t, "deleted", own.Delete(t.Context(), other, metav1.DeleteOptions{}), limitsOfNamespaces)
}
