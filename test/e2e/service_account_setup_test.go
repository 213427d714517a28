// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// expectLimited requires that a policy has refused a write.
func expectLimited(t *testing.T, what string, err error, policy string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), policy) {
		t.Errorf("%s: got %v, want a refusal by %s", what, orUnlimited(err), policy)
	}
}

var errUnlimited = errors.New("the write was accepted")

func orUnlimited(err error) error {
	if err == nil {
		return errUnlimited
	}
	return err
}

// asServiceAccount returns a client with the token of the controller.
func (e *env) asServiceAccount() dynamic.Interface {
	e.t.Helper()
	config, err := cluster.ServiceAccountConfig(e.t.Context())
	e.check(err)
	client, err := dynamic.NewForConfig(config)
	e.check(err)
	return client
}

// waitLimited waits until the API server uses the policies, which takes a second
// after they were created.
func (e *env) waitLimited(namespace string, thief dynamic.Interface) {
	e.t.Helper()
	e.limitEventually(namespace, thief, true)
}

func (e *env) limitEventually(namespace string, thief dynamic.Interface, want bool) {
	e.t.Helper()
	probe := e.createTask(newTask(namespace, "", func(t *v1.Task) { t.GenerateName = "probe-" }))
	e.eventually(soon, func() error {
		_, err := thief.Resource(resource.Task.GroupVersionResource()).Namespace(namespace).Patch(e.t.Context(), probe.Name,
			types.MergePatchType, []byte(`{"metadata":{"labels":{"probe":"yes"}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		if limited := err != nil && strings.Contains(err.Error(), limitsOfResources); limited != want {
			return fmt.Errorf("the service account changed a label with the result %w, want limited: %v", orUnlimited(err), want)
		}
		return nil
	})
	e.check(cluster.Tekton.TektonV1().Tasks(namespace).Delete(e.t.Context(), probe.Name, metav1.DeleteOptions{}))
}

// removeLimits removes the policies until the test ends, as in a cluster whose
// Kubernetes has none.
func (e *env) removeLimits(namespace string) {
	e.t.Helper()
	file := filepath.Join(harness.Root(), "config", "204-limit-service-account.yaml")
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "apply", "--server-side", "--force-conflicts", "-f", file)
		return err
	})
	_, err := cluster.RunKubectl(e.t.Context(), "", "delete", "-f", file)
	e.check(err)
	e.limitEventually(namespace, e.asServiceAccount(), false)
}

// changeDefaults changes Tekton's ConfigMap config-defaults until the test ends, and
// waits until Tekton's webhook gives a pod template to new runs.
func (e *env) changeDefaults(namespace, data string) {
	e.t.Helper()
	const name, tekton = "config-defaults", "tekton-pipelines"
	configMaps := cluster.Kube.CoreV1().ConfigMaps(tekton)
	before, err := configMaps.Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	e.cleanup(func() error {
		restore, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/data", "value": before.Data}})
		if err != nil {
			return err
		}
		_, err = configMaps.Patch(cleanupContext(), name, types.JSONPatchType, restore, metav1.PatchOptions{})
		return err
	})
	_, err = configMaps.Patch(e.t.Context(), name, types.MergePatchType, []byte(`{"data":`+data+`}`), metav1.PatchOptions{})
	e.check(err)
	e.eventually(soon, func() error {
		run, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Create(e.t.Context(), &v1.TaskRun{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "dry-run-"}, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "any"}},
		}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && run.Spec.PodTemplate == nil {
			err = errors.New("a new run has no pod template")
		}
		return err
	})
}

func (e *env) bindClusterAdmin() {
	e.t.Helper()
	bindings := cluster.Kube.RbacV1().ClusterRoleBindings()
	binding, err := bindings.Create(e.t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: harness.SystemNamespace, Name: harness.ServiceAccount}},
	}, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error { return bindings.Delete(cleanupContext(), binding.Name, metav1.DeleteOptions{}) })
}

// createLimited creates one object of each kind with limitedMeta. The runs wait for
// ever, so that Tekton does not change them meanwhile.
func (e *env) createLimited(namespace string) {
	e.t.Helper()
	meta := limitedMeta(namespace)
	create, client := metav1.CreateOptions{}, cluster.Tekton
	steps := []v1.Step{{Name: "s", Image: "alpine", Script: "echo"}}
	_, err := client.TektonV1().Tasks(namespace).Create(e.t.Context(), &v1.Task{ObjectMeta: meta, Spec: v1.TaskSpec{Steps: steps}}, create)
	e.check(err)
	_, err = client.TektonV1().Pipelines(namespace).Create(e.t.Context(), &v1.Pipeline{
		ObjectMeta: meta, Spec: v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "t", TaskRef: &v1.TaskRef{Name: "limited"}}}},
	}, create)
	e.check(err)
	_, err = client.TektonV1beta1().StepActions(namespace).Create(e.t.Context(), &v1beta1.StepAction{
		ObjectMeta: meta, Spec: v1beta1.StepActionSpec{Image: "alpine", Script: "echo"},
	}, create)
	e.check(err)
	_, err = client.TektonV1().TaskRuns(namespace).Create(e.t.Context(), &v1.TaskRun{
		ObjectMeta: meta, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "limited"}, Status: v1.TaskRunSpecStatusPending},
	}, create)
	e.check(err)
	_, err = client.TektonV1().PipelineRuns(namespace).Create(e.t.Context(), &v1.PipelineRun{
		ObjectMeta: meta, Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "limited"}, Status: v1.PipelineRunSpecStatusPending},
	}, create)
	e.check(err)
	e.t.Cleanup(func() {
		for _, gvr := range []schema.GroupVersionResource{
			resource.Task.GroupVersionResource(), resource.Pipeline.GroupVersionResource(), resource.StepAction.GroupVersionResource(), taskRuns, pipelineRuns,
		} {
			e.releaseLimited(gvr, namespace)
		}
	})
}

// releaseLimited removes the finalizers of an object of createLimited, so that its
// namespace can be deleted.
func (e *env) releaseLimited(gvr schema.GroupVersionResource, namespace string) {
	admin, err := dynamic.NewForConfig(cluster.Admin)
	if err == nil {
		_, err = admin.Resource(gvr).Namespace(namespace).Patch(cleanupContext(), "limited", types.MergePatchType,
			[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	}
	if ignoreNotFound(err) != nil {
		e.t.Error(err)
	}
}

// limited returns an object of createLimited.
func (e *env) limited(gvr schema.GroupVersionResource, namespace string) *unstructured.Unstructured {
	e.t.Helper()
	admin, err := dynamic.NewForConfig(cluster.Admin)
	e.check(err)
	obj, err := admin.Resource(gvr).Namespace(namespace).Get(e.t.Context(), "limited", metav1.GetOptions{})
	e.check(err)
	return obj
}
