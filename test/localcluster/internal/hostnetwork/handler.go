// SPDX-License-Identifier: Apache-2.0

package hostnetwork

import (
	"encoding/json"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxReview is the size of a request that the handler reads at most. The API server accepts objects of 3 MiB.
const maxReview = 8 << 20

// ServeHTTP answers an AdmissionReview of a Pod.
func (p Pods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReview)).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, fmt.Sprintf("the body is not an AdmissionReview with a request: %v", err), http.StatusBadRequest)
		return
	}
	response, err := p.respond(review.Request)
	if err != nil {
		response = &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
	}
	response.UID = review.Request.UID
	review.Request, review.Response = nil, response
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // an error means that the API server has gone
}

func (p Pods) respond(request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	if request.DryRun != nil && *request.DryRun { // needs no network, and may be in a restricted namespace
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	}
	var pod corev1.Pod
	if err := json.Unmarshal(request.Object.Raw, &pod); err != nil {
		return nil, err
	}
	if err := p.change(&pod); err != nil {
		return nil, err
	}
	patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/spec", "value": pod.Spec}})
	if err != nil {
		return nil, err
	}
	kind := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: patch, PatchType: &kind}, nil
}
