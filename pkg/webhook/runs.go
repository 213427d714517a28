// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json" // like the API server: case matters

	"github.com/trusted-resources/chains-extension/pkg/admission"
	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// rewrite makes a local reference of a run one to the cluster resolver, in the namespace
// of the run. field is that of the reference, and kind what it refers to.
func rewrite(request *admissionv1.AdmissionRequest, field, kind string) (answer, error) {
	after, err := referenceIn(request.Object.Raw, field)
	if err != nil {
		return answer{}, err
	}
	var before *admission.Reference
	if request.Operation == admissionv1.Update {
		stored, err := referenceIn(request.OldObject.Raw, field)
		if err != nil {
			return answer{}, err
		}
		before = &stored
	}
	if !after.NeedsResolver(before) {
		return answer{}, nil
	}
	// Other fields of the reference stay, so that Tekton can refuse them.
	path := "/spec/" + field + "/"
	a := answer{audit: map[string]string{"reference": "rewritten"}}
	a.patch = append(a.patch, remove(path+"name"), add(path+"resolver", admission.ClusterResolver),
		add(path+"params", admission.ResolverParams(kind, after.Name, request.Namespace)))
	return a, nil
}

// referenceIn reads a reference of a run. It does not read the version of the API,
// because the versions have the same two fields.
func referenceIn(object []byte, field string) (admission.Reference, error) {
	var run map[string]any
	if err := json.Unmarshal(object, &run); err != nil {
		return admission.Reference{}, fmt.Errorf("the run cannot be decoded: %w", err)
	}
	text := func(name string) string {
		value, _, _ := unstructured.NestedString(run, "spec", field, name) // null and other types count as empty
		return value
	}
	return admission.Reference{Name: text("name"), Resolver: text("resolver")}, nil
}

// hold adds our scheduling gate to the Pod of a TaskRun.
func hold(request *admissionv1.AdmissionRequest) (answer, error) {
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return answer{}, fmt.Errorf("the Pod cannot be decoded: %w", err)
	}
	if request.Operation != admissionv1.Create || !admission.MustWait(&pod) {
		return answer{}, nil
	}
	gate := corev1.PodSchedulingGate{Name: v1alpha1.SchedulingGate}
	a := answer{audit: map[string]string{"gate": "added"}}
	if len(pod.Spec.SchedulingGates) == 0 {
		a.patch = append(a.patch, add("/spec/schedulingGates", []corev1.PodSchedulingGate{gate}))
	} else {
		a.patch = append(a.patch, add("/spec/schedulingGates/-", gate))
	}
	return a, nil
}
