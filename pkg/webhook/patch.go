// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"encoding/json"
	"net/http"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// answer is what becomes of a request that is admitted.
type answer struct {
	patch []jsonpatch.Operation
	// audit is added to the event of the request in the audit log of the API server.
	audit map[string]string
}

// response returns the response for a request, which is refused if there is an error.
// The API server then answers with a status that makes clients try again.
func (a answer) response(err error) *admissionv1.AdmissionResponse {
	if err != nil {
		return refused(err)
	}
	r := &admissionv1.AdmissionResponse{Allowed: true, AuditAnnotations: a.audit}
	if len(a.patch) > 0 {
		patch, err := json.Marshal(a.patch)
		if err != nil {
			return refused(err)
		}
		jsonPatch := admissionv1.PatchTypeJSONPatch
		r.Patch, r.PatchType = patch, &jsonPatch
	}
	return r
}

func refused(err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonServiceUnavailable, Code: http.StatusServiceUnavailable,
		Message: err.Error(),
	}}
}

func add(path string, value any) jsonpatch.Operation {
	return jsonpatch.Operation{Operation: "add", Path: path, Value: value}
}

func remove(path string) jsonpatch.Operation {
	return jsonpatch.Operation{Operation: "remove", Path: path}
}
