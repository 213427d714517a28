// SPDX-License-Identifier: Apache-2.0

//go:build matrix

package matrix

import (
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// On a Kubernetes without MutatingAdmissionPolicies, everything of config/ but
// config/admission works: resources are signed and Tekton enforces the signatures.
func TestOlderKubernetes_RunsOnlySignedTasks(t *testing.T) {
	e := start(t, harness.Releases{Kubernetes: "v1.33.13"})
	served, err := e.RunKubectl(t.Context(), "", "api-resources", "--api-group", "admissionregistration.k8s.io", "-o", "name")
	e.check(err)
	if strings.Contains(served, "mutatingadmissionpolicies") || !strings.Contains(served, "validatingadmissionpolicies") {
		t.Fatalf("the API server serves %s, want no MutatingAdmissionPolicies", served)
	}
	ns := e.namespace()
	e.createTask(ns, "build")
	e.waitSigned(ns, "build", "")
	run := e.run(ns, "build")
	e.expectAccepted(run)
	e.expectPassed(run)
	e.tampered(ns, "tampered", e.expectRefused)
}
