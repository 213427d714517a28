// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestFacts_HaveFewLabels(t *testing.T) {
	for _, tc := range []struct {
		fact Fact
		want string
	}{
		{KMSRequested{Provider: "hashivault", Operation: "sign", Took: time.Second}, "[{trustedresources_kms_request_duration 1s [provider=hashivault operation=sign outcome=ok]}]"},
		{KMSRequested{Operation: "verify", Err: errors.New("no")}, "[{trustedresources_kms_request_duration 0s [provider= operation=verify outcome=error]}]"},
		{RegistryRequested{Method: "HEAD", Status: 404}, "[{trustedresources_registry_request_duration 0s [operation=read code=4xx]}]"},
		{RegistryRequested{Method: "PATCH", Status: 202}, "[{trustedresources_registry_request_duration 0s [operation=write code=2xx]}]"},
		{RegistryRequested{Method: "DELETE"}, "[{trustedresources_registry_request_duration 0s [operation=delete code=error]}]"},
		{RegistryRequested{Status: 999}, "[{trustedresources_registry_request_duration 0s [operation=read code=error]}]"},
		{GateRefused{TaskRun: &corev1.ObjectReference{}, Waited: time.Minute}, "[{trustedresources_gate_wait 1m0s [decision=refused]}]"},
		{Judged{Result: "PASSED", Cached: true, Took: time.Second}, "[{trustedresources_verification_duration 1s [result=PASSED cache=hit]}]"},
	} {
		if got := described(tc.fact.report().took); got != tc.want {
			t.Errorf("%+v: got %s, want %s", tc.fact, got, tc.want)
		}
	}
}

// described returns the measurements in a form that can be compared.
func described(took []measured) string {
	all := make([]string, 0, len(took))
	for _, m := range took {
		labels := make([]string, 0, len(m.attributes))
		for _, label := range m.attributes {
			labels = append(labels, string(label.Key)+"="+label.Value.AsString())
		}
		all = append(all, fmt.Sprintf("{%s %s %v}", m.histogram, m.duration, labels))
	}
	return fmt.Sprint(all)
}
