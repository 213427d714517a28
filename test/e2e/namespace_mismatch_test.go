// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A Task that the controller has signed and stored in one namespace is copied to the
// repository of another namespace. The policy there trusts the key and the repository,
// so Tekton accepts the Task: the namespace is a part of what was signed, and Tekton does
// not compare it with anything. The attestation does.
func TestAttestation_FailsTaskCopiedToRepositoryOfAnotherNamespace(t *testing.T) {
	m, registry := startStoringWithStatus(t, "tekton,oci")
	sandbox, prod := m.namespace(), m.namespace()
	reader := newReader(registry.Host())
	m.check(cluster.TrustFrom(t.Context(), prod, regexp.QuoteMeta(registry.Host()+"/tekton/"+prod), m.public))
	evil := m.waitStored(reader, m.createTask(newTask(sandbox, "build", buildsImage)))
	honest := m.waitStored(reader, m.createTask(newTask(prod, "build", buildsImage)))
	copied := registry.Host() + "/tekton/" + prod + ":copied"
	m.check(harness.CopyImage(t.Context(), evil.Reference, copied))

	for _, tc := range []struct{ name, bundle, result, reason, agreement string }{
		{"honest", honest.Reference, "PASSED", "", "AGREES"},
		{"copied", copied, "FAILED", "NamespaceMismatch", "DIFFERS"},
	} {
		m.createTaskRun(prod, tc.name, &v1.TaskRef{ResolverRef: harness.BundleRef(tc.bundle, resource.Task, "build")})
		verifications, summary := m.verificationStatus(m.waitAttestation(prod, tc.name, false, runEnds))
		if len(verifications) != 1 || verifications[0].Result != tc.result || verifications[0].Reason != tc.reason {
			t.Errorf("%s: got %+v, want %s %s", tc.name, verifications, tc.result, tc.reason)
		}
		if summary.Result != tc.result || summary.Agreement != tc.agreement || summary.Tekton.Status != "True" {
			t.Errorf("%s: the summary is %+v, want %s, %s, and that Tekton accepted the Task", tc.name, summary, tc.result, tc.agreement)
		}
	}
	run, err := cluster.Tekton.TektonV1().TaskRuns(prod).Get(t.Context(), "copied", metav1.GetOptions{})
	m.check(err)
	if verified := run.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified); !verified.IsTrue() || !run.IsSuccessful() {
		t.Errorf("Tekton's conditions are %+v, want that it verified and ran the copy", run.Status.Conditions)
	}
	m.waitEvent(run, "VerificationDiffers", "NamespaceMismatch")
}
