// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// In some clusters a mutating webhook changes a resource on each write, so that each
// signature is invalid as soon as it is written. The controller must not write in an
// endless loop. With the limits of the service account, the API server refuses the
// write instead: see TestServiceAccount_RefusesToWriteForWebhooks.
func TestDispute_BacksOffFromMutatingPolicy(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.removeLimits(ns)
	e.stampUpdates(ns)
	created := e.createTask(newTask(ns, "disputed"))
	e.waitEvent(created, v1alpha1.ReasonDisputed, "mutating admission webhook")

	// The controller waits 1, 2, 4 and 8 seconds: at most 4 writes from here on. A
	// loop without delays would make hundreds.
	if writes := e.countWritesDuring(ns, 10*time.Second); writes > 4 {
		t.Errorf("%d writes within 10 s, want at most 4", writes)
	}
}

// stampUpdates makes the API server write the previous resourceVersion of a Task into
// an annotation, so that every update changes the content.
func (e *env) stampUpdates(namespace string) {
	e.t.Helper()
	const annotation = "example.com/was"
	policy := &admissionv1.MutatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: "stamp-" + namespace},
	}
	binding := &admissionv1.MutatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "MutatingAdmissionPolicyBinding"},
		ObjectMeta: policy.ObjectMeta,
		Spec:       admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: policy.Name},
	}
	rule := admissionv1.NamedRuleWithOperations{}
	rule.Operations = []admissionv1.OperationType{admissionv1.Update}
	rule.APIGroups, rule.APIVersions, rule.Resources = []string{"tekton.dev"}, []string{"v1"}, []string{"tasks"}
	policy.Spec = admissionv1.MutatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
			ResourceRules:     []admissionv1.NamedRuleWithOperations{rule},
		},
		ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
		Mutations: []admissionv1.Mutation{{
			PatchType: admissionv1.PatchTypeApplyConfiguration,
			ApplyConfiguration: &admissionv1.ApplyConfiguration{
				Expression: fmt.Sprintf(`Object{metadata: Object.metadata{annotations: {%q: oldObject.metadata.resourceVersion}}}`, annotation),
			},
		}},
	}
	for _, obj := range []any{policy, binding} {
		manifest, err := json.Marshal(obj)
		e.check(err)
		e.kubectlApply(string(manifest))
	}
	client := cluster.Kube.AdmissionregistrationV1()
	e.cleanup(func() error {
		return client.MutatingAdmissionPolicyBindings().Delete(cleanupContext(), binding.Name, metav1.DeleteOptions{})
	})
	e.cleanup(func() error {
		return client.MutatingAdmissionPolicies().Delete(cleanupContext(), policy.Name, metav1.DeleteOptions{})
	})
	e.eventually(soon, func() error { // the API server does not use a new policy at once
		probe := e.createTask(newTask(namespace, "", func(t *v1.Task) { t.GenerateName = "probe-" }))
		e.patchTask(namespace, probe.Name, `{"spec":{"description":"changed"}}`)
		stamped := e.getTask(namespace, probe.Name).Annotations[annotation] != ""
		e.check(cluster.Tekton.TektonV1().Tasks(namespace).Delete(e.t.Context(), probe.Name, metav1.DeleteOptions{}))
		if !stamped {
			return fmt.Errorf("Task %s has no annotation %s", probe.Name, annotation)
		}
		return nil
	})
}
