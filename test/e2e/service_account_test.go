// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Names of the policies in config/204-limit-service-account.yaml.
const (
	limitsOfResources = "resources.service-account.trustedresources.tekton.dev"
	limitsOfRuns      = "runs.service-account.trustedresources.tekton.dev"
)

var (
	taskRuns     = v1.SchemeGroupVersion.WithResource("taskruns")
	pipelineRuns = v1.SchemeGroupVersion.WithResource("pipelineruns")
)

// With the token of the controller, a thief can write signatures and what Chains
// writes on runs, and nothing else. RBAC alone would allow every patch.
func TestServiceAccount_WritesSignaturesOnly(t *testing.T) {
	e := newEnv(t)
	ns := e.namespaceLabelled(nil)
	e.createLimited(ns)
	thief := e.asServiceAccount()
	e.waitLimited(ns, thief)
	for _, tc := range []struct {
		gvr              schema.GroupVersionResource
		policy           string
		allowed, refused []limitedPatch
	}{
		{resource.Task.GroupVersionResource(), limitsOfResources, allowedOnResources, refusedOnResources},
		{resource.Pipeline.GroupVersionResource(), limitsOfResources, allowedOnResources, refusedOnResources},
		{resource.StepAction.GroupVersionResource(), limitsOfResources, allowedOnResources, refusedOnResources},
		{taskRuns, limitsOfRuns, allowedOnRuns, append(refusedOnRuns, limitedPatch{"message", `{"spec":{"statusMessage":"x"}}`})},
		{pipelineRuns, limitsOfRuns, allowedOnRuns, refusedOnRuns},
	} {
		client := thief.Resource(tc.gvr).Namespace(ns)
		t.Run(tc.gvr.Resource, func(t *testing.T) {
			// Tekton itself refuses changes of the spec of a run.
			if _, err := client.Patch(t.Context(), "limited", types.MergePatchType, []byte(`{"spec":{"params":[{"name":"new","value":"x"}]}}`), metav1.PatchOptions{}); err == nil {
				t.Error("spec: accepted")
			}
			for _, p := range tc.allowed {
				if _, err := client.Patch(t.Context(), "limited", types.MergePatchType, []byte(p.patch), metav1.PatchOptions{}); err != nil {
					t.Errorf("%s: refused: %v", p.name, err)
				}
			}
			for _, p := range tc.refused {
				_, err := client.Patch(t.Context(), "limited", types.MergePatchType, []byte(p.patch), metav1.PatchOptions{})
				expectLimited(t, p.name, err, tc.policy)
			}
		})
	}
}

// The ClusterRoles of an earlier Chains may still be bound to the account. The limits
// hold with every permission.
func TestServiceAccount_IsLimitedWithEveryPermission(t *testing.T) {
	e := newEnv(t)
	ns := e.namespaceLabelled(nil)
	e.createLimited(ns)
	thief := e.asServiceAccount()
	e.waitLimited(ns, thief)
	e.bindClusterAdmin()
	e.eventually(soon, func() error { // the API server does not use a new binding at once
		_, err := thief.Resource(taskRuns).Namespace(ns).UpdateStatus(e.t.Context(), e.limited(taskRuns, ns), metav1.UpdateOptions{})
		if err == nil || !strings.Contains(err.Error(), limitsOfRuns) {
			return fmt.Errorf("the status of a run was changed with the result %w", orUnlimited(err))
		}
		return nil
	})
	for gvr, policy := range map[schema.GroupVersionResource]string{
		resource.Task.GroupVersionResource():       limitsOfResources,
		resource.Pipeline.GroupVersionResource():   limitsOfResources,
		resource.StepAction.GroupVersionResource(): limitsOfResources,
		taskRuns:     limitsOfRuns,
		pipelineRuns: limitsOfRuns,
	} {
		client := thief.Resource(gvr).Namespace(ns)
		created := e.limited(gvr, ns)
		created.SetName("created")
		created.SetResourceVersion("")
		_, err := client.Create(t.Context(), created, metav1.CreateOptions{})
		expectLimited(t, gvr.Resource+" is created", err, policy)
		changed := e.limited(gvr, ns)
		changed.SetLabels(map[string]string{"team": "other"})
		_, err = client.Update(t.Context(), changed, metav1.UpdateOptions{})
		expectLimited(t, gvr.Resource+" is updated", err, policy)
		expectLimited(t, gvr.Resource+" is deleted", client.Delete(t.Context(), "limited", metav1.DeleteOptions{}), policy)
	}
	older := taskRuns.GroupResource().WithVersion("v1beta1")
	_, err := thief.Resource(older).Namespace(ns).Patch(t.Context(), "limited", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
	expectLimited(t, "run in v1beta1", err, limitsOfRuns)
}

// Many annotations are refused at once: to compare each of them would keep a worker
// busy for seconds. The finalizer of a run can still be removed.
func TestServiceAccount_BoundsTheComparison(t *testing.T) {
	e := newEnv(t)
	ns := e.namespaceLabelled(nil)
	account := e.asServiceAccount()
	e.waitLimited(ns, account)
	annotated := func(number int) map[string]string {
		annotations := map[string]string{}
		for i := range number {
			annotations[fmt.Sprintf("example.com/%d", i)] = ""
		}
		return annotations
	}
	sign := []byte(`{"metadata":{"annotations":{"tekton.dev/signature":"c2lnbmVk"}}}`)
	tasks := account.Resource(resource.Task.GroupVersionResource()).Namespace(ns)
	for name, number := range map[string]int{"many": 999, "too-many": 1001} {
		e.createTask(newTask(ns, name, func(t *v1.Task) { t.Annotations = annotated(number) }))
		_, err := tasks.Patch(t.Context(), name, types.MergePatchType, sign, metav1.PatchOptions{})
		if number < 1000 {
			e.check(err)
			continue
		}
		expectLimited(t, name, err, limitsOfResources)
	}
	_, err := cluster.Tekton.TektonV1().TaskRuns(ns).Create(t.Context(), &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Name: "too-many", Annotations: annotated(1001), Finalizers: []string{"chains.tekton.dev/taskrun"}},
		Spec:       v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "any"}, Status: v1.TaskRunSpecStatusPending},
	}, metav1.CreateOptions{})
	e.check(err)
	_, err = account.Resource(taskRuns).Namespace(ns).Patch(t.Context(), "too-many", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	e.check(err)
}

// Other users do what RBAC allows them to do, and Chains can still release a run
// that is being deleted.
func TestServiceAccount_LimitsNobodyElse(t *testing.T) {
	e := newEnv(t)
	ns := e.namespaceLabelled(nil)
	e.createLimited(ns)
	account := e.asServiceAccount()
	e.waitLimited(ns, account)
	e.patchTask(ns, "limited", `{"metadata":{"labels":{"team":"b"},"finalizers":null},"spec":{"description":"changed"}}`)
	e.check(cluster.Tekton.TektonV1().Tasks(ns).Delete(t.Context(), "limited", metav1.DeleteOptions{}))

	runs := cluster.Tekton.TektonV1().TaskRuns(ns)
	_, err := runs.Patch(t.Context(), "limited", types.MergePatchType,
		[]byte(`{"metadata":{"finalizers":["chains.tekton.dev/taskrun"]}}`), metav1.PatchOptions{})
	e.check(err)
	e.check(runs.Delete(t.Context(), "limited", metav1.DeleteOptions{}))
	_, err = account.Resource(taskRuns).Namespace(ns).Patch(t.Context(), "limited", types.MergePatchType,
		[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	e.check(err)
	_, err = runs.Get(t.Context(), "limited", metav1.GetOptions{})
	if err == nil || ignoreNotFound(err) != nil {
		t.Errorf("the run without finalizers still exists, error %v", err)
	}
}

// After a change of Tekton's defaults, Tekton's webhook adds the new ones to a finished
// run in each write. Chains can still sign and release such a run.
func TestServiceAccount_WritesRunsThatTektonGivesNewDefaults(t *testing.T) {
	e := newEnv(t)
	ns := e.namespaceLabelled(nil)
	account := e.asServiceAccount()
	e.waitLimited(ns, account)
	e.createTask(newTask(ns, "build"))
	run, err := cluster.RunLocalTask(t.Context(), ns, "build", soon)
	e.check(err)
	e.changeDefaults(ns, `{"default-pod-template":"nodeSelector: {new: default}"}`)

	patched, err := account.Resource(taskRuns).Namespace(ns).Patch(t.Context(), run.Name, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"chains.tekton.dev/signed":"true"},"finalizers":["chains.tekton.dev/taskrun"]}}`), metav1.PatchOptions{})
	e.check(err)
	selector, _, err := unstructured.NestedString(patched.Object, "spec", "podTemplate", "nodeSelector", "new")
	e.check(err)
	if selector != "default" {
		t.Errorf("Tekton has added no default to the run: %v", patched.Object["spec"])
	}
	e.check(cluster.Tekton.TektonV1().TaskRuns(ns).Delete(t.Context(), run.Name, metav1.DeleteOptions{}))
	_, err = account.Resource(taskRuns).Namespace(ns).Patch(t.Context(), run.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	e.check(err)
}

// The API server finds no fault in the expressions of the policies.
func TestServiceAccount_PoliciesHaveNoWarnings(t *testing.T) {
	newEnv(t).expectNoWarnings(limitsOfResources, limitsOfRuns, limitsOfPods, limitsOfConfigMaps, limitsOfNamespaces)
}

// expectNoWarnings requires that the expressions of policies fit the types of the objects.
func (e *env) expectNoWarnings(policies ...string) {
	e.t.Helper()
	for _, name := range policies {
		e.eventually(soon, func() error {
			policy, err := cluster.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(e.t.Context(), name, metav1.GetOptions{})
			if err == nil && (policy.Status.TypeChecking == nil || policy.Status.ObservedGeneration != policy.Generation) {
				err = fmt.Errorf("policy %s is not checked yet", name)
			}
			if err == nil && len(policy.Status.TypeChecking.ExpressionWarnings) > 0 {
				e.t.Errorf("policy %s: %+v", name, policy.Status.TypeChecking.ExpressionWarnings)
			}
			return err
		})
	}
}

// A mutating webhook that changes the resource while the signature is written would
// make the controller write that change. The API server refuses the write, and the
// Event says what to do.
func TestServiceAccount_RefusesToWriteForWebhooks(t *testing.T) {
	e := startController(t)
	ns := e.namespaceLabelled(nil)
	e.waitLimited(ns, e.asServiceAccount())
	e.stampUpdates(ns)
	created := e.createTask(newTask(ns, "stamped"))
	e.labelNamespace(ns, "true")
	e.waitEvent(created, v1alpha1.ReasonRefused, "write the resource once as another user")
	if got := e.getTask(ns, "stamped"); got.ResourceVersion != created.ResourceVersion {
		t.Errorf("the Task was changed: %+v", got.ObjectMeta)
	}
}
