// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// Editors do with the Pod of a TaskRun what changes nothing of what runs, and with
// other Pods what they like.
func TestGuards_AcceptHonestWrites(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	ns := e.enforced()
	editor := e.hostileIn(ns)
	pod := e.startRun(ns)
	for what, try := range map[string]func(context.Context, *harness.Cluster, *corev1.Pod) error{
		"add a label":      patchPod(`[{"op":"add","path":"/metadata/labels/team","value":"a"}]`),
		"add a toleration": patchPod(`[{"op":"add","path":"/spec/tolerations/-","value":{"key":"spot","operator":"Exists"}}]`),
		"create a Pod":     createPod(func(*corev1.Pod, *corev1.Pod) {}),
		"delete": func(ctx context.Context, as *harness.Cluster, pod *corev1.Pod) error {
			return as.Kube.CoreV1().Pods(ns).Delete(ctx, pod.Name, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
		},
		"read the log": func(ctx context.Context, as *harness.Cluster, pod *corev1.Pod) error {
			// The Pod is held and has no log, so an empty log is the answer.
			_, err := as.Kube.CoreV1().Pods(ns).GetLogs(pod.Name, &corev1.PodLogOptions{Container: pod.Spec.Containers[0].Name}).Do(ctx).Raw()
			return err
		},
	} {
		if err := try(t.Context(), editor, pod); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Tekton replaces the images of sidecars to end them, and tells the steps when to begin
// and to end. An account with the name of Tekton's, to which a tenant has given all that
// tenants can give, does not count as Tekton, nor does the account of our controller.
func TestGuards_KnowTektonsAccount(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	ns := e.enforced()
	pod := e.startRun(ns)
	impostor := fmt.Sprintf("system:serviceaccount:%s:tekton-pipelines-controller", ns)
	e.allowEverythingIn(ns, impostor)
	e.allowEverythingIn(ns, ownAccount)
	tried := 0
	for _, a := range attempts {
		if a.guard != guardOfPods || strings.Contains(a.name, "ephemeral") || strings.Contains(a.name, "without one") {
			continue
		}
		if strings.HasPrefix(a.name, "create") {
			continue // a Pod that nothing holds, or whose name is not Tekton's
		}
		tried++
		t.Run(a.name, func(t *testing.T) {
			if err := a.try(t.Context(), e.as(tektonAccount), pod); err != nil {
				t.Errorf("Tekton: %v", err)
			}
			expectGuarded(t, a.try(t.Context(), e.as(impostor), pod), guardOfPods)
			if err := a.try(t.Context(), e.as(ownAccount), pod); err == nil {
				t.Error("our controller: accepted")
			}
		})
	}
	if tried < 8 {
		t.Errorf("%d attempts, want at least 8", tried)
	}
}

// allowEverythingIn gives all rights in a namespace to a user, by a Role.
func (e *env) allowEverythingIn(namespace, user string) {
	e.t.Helper()
	roles := cluster.Kube.RbacV1().Roles(namespace)
	role, err := roles.Create(e.t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "everything-"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}},
	}, metav1.CreateOptions{})
	e.check(err)
	_, err = cluster.Kube.RbacV1().RoleBindings(namespace).Create(e.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: role.Name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	e.check(err)
	e.waitMay(user, true, mayEverything(namespace))
}
