// SPDX-License-Identifier: Apache-2.0

package hostnetwork

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

func pods(first int) Pods {
	next := first - 1
	return Pods{
		Env:      []corev1.EnvVar{{Name: "SERVER", Value: "here"}},
		FreePort: func() (int, error) { next++; return next, nil },
	}
}

func TestChange_GivesEachPodItsOwnPorts(t *testing.T) {
	p := pods(21000)
	seen := make([]int32, 0, 4)
	for range 2 {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "controller", Env: []corev1.EnvVar{{Name: "SERVER", Value: "elsewhere"}},
			Ports: []corev1.ContainerPort{{Name: metricsPort, ContainerPort: 9090}, {Name: probesPort, ContainerPort: 8080}, {Name: "own", ContainerPort: 7}},
		}}}}
		if err := p.change(pod); err != nil {
			t.Fatal(err)
		}
		c := pod.Spec.Containers[0]
		if !pod.Spec.HostNetwork || len(c.Env) != 2 || c.Env[0].Value != "here" || len(c.Args) != 1 {
			t.Errorf("got %+v", pod.Spec)
		}
		for _, port := range c.Ports {
			if port.HostPort != port.ContainerPort {
				t.Errorf("port %s: host %d, container %d", port.Name, port.HostPort, port.ContainerPort)
			}
		}
		if c.Ports[2].ContainerPort != 7 {
			t.Errorf("the port of a program that cannot use another one has become %d", c.Ports[2].ContainerPort)
		}
		seen = append(seen, c.Ports[0].ContainerPort, c.Ports[1].ContainerPort)
	}
	if want := []int32{21000, 21001, 21002, 21003}; !slices.Equal(seen, want) {
		t.Errorf("ports %v, want %v", seen, want)
	}
}

func TestServeHTTP_AnswersOnlyReviews(t *testing.T) {
	pod, err := json.Marshal(&corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	review, err := json.Marshal(admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "1", Object: runtime.RawExtension{Raw: pod}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		body   string
		status int
		want   string
	}{
		{string(review), http.StatusOK, `"uid":"1","allowed":true`},
		{"{}", http.StatusBadRequest, "AdmissionReview"},
		{"", http.StatusBadRequest, "AdmissionReview"},
	} {
		w := httptest.NewRecorder()
		pods(1).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewBufferString(tc.body)))
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.want) {
			t.Errorf("body %q: got status %d and %s", tc.body, w.Code, w.Body)
		}
	}
}
