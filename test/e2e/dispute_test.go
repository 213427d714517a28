package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
)

// In some clusters a mutating webhook changes whatever is written, so that
// signing changes what was signed. The two must not write forever.
func TestDispute_BacksOffFromMutatingPolicy(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.stampUpdates(ns)
	created := e.createTask(newTask(ns, "disputed"))
	e.waitEvent(created, resources.ReasonDisputed, "mutating admission webhook")

	// Held back for 1, 2, 4, 8 seconds: that is at most 4 writes from here on,
	// where a loop would make hundreds.
	if writes := e.countWritesDuring(ns, 10*time.Second); writes > 4 {
		t.Errorf("%d writes within 10 s", writes)
	}
}

// stampUpdates makes the API server note the resourceVersion that a Task had
// in an annotation of it, so that every update has new content.
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
	e.eventually(soon, func() error { // the API server takes a moment to see it
		probe := e.createTask(newTask(namespace, "", func(t *v1.Task) { t.GenerateName = "probe-" }))
		e.patchTask(namespace, probe.Name, `{"spec":{"description":"changed"}}`)
		stamped := e.getTask(namespace, probe.Name).Annotations[annotation] != ""
		e.check(cluster.Tekton.TektonV1().Tasks(namespace).Delete(e.t.Context(), probe.Name, metav1.DeleteOptions{}))
		if !stamped {
			return fmt.Errorf("%s is not stamped", probe.Name)
		}
		return nil
	})
}
