// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Users verify the attestations of stock Chains with cosign and the public key. The
// same commands work with both major versions of cosign.
func TestCosign_VerifiesAttestations(t *testing.T) {
	if err := harness.BuildCosigns(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	e := startController(t)
	e.configure(with(withoutRegistry, map[string]string{"artifacts.taskrun.format": "slsa/v2alpha4"}))
	envelope, err := harness.Envelope(e.runBuildTask(e.namespace()), harness.TaskRun)
	e.check(err)
	_, otherKey, err := fixtures.X509Secret()
	e.check(err)
	const provenance = "slsaprovenance1"
	other := strings.Repeat("0", len(harness.BuiltDigest))

	for _, cosign := range harness.Cosigns {
		t.Run(cosign.Version, func(t *testing.T) {
			e := e.sub(t)
			e.check(cosign.VerifyBlobAttestation(t.Context(), e.public, envelope, provenance, harness.BuiltDigest))
			e.expectError(cosign.VerifyBlobAttestation(t.Context(), otherKey, envelope, provenance, harness.BuiltDigest),
				"accepted signatures do not match threshold")
			e.expectError(cosign.VerifyBlobAttestation(t.Context(), e.public, envelope, provenance, other),
				"no matching subject digest found")
			e.expectError(cosign.VerifyBlobAttestation(t.Context(), e.public, envelope, "slsaprovenance02", harness.BuiltDigest),
				"invalid predicate type")
		})
	}
}

// Stock cosign also accepts attestations with the verification status, in both formats
// that carry the status and in both places where Chains stores attestations.
func TestCosign_VerifiesAttestationsWithStatus(t *testing.T) {
	if err := harness.BuildCosigns(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	m := startWithStatus(t)
	_, otherKey, err := fixtures.X509Secret()
	m.check(err)
	for _, format := range []string{"slsa/v2alpha3", "slsa/v2alpha4"} {
		t.Run(format, func(t *testing.T) {
			m := &matrix{env: m.sub(t), signer: m.signer, registry: m.registry}
			m.configure(with(withProvenance, map[string]string{
				"artifacts.taskrun.format": format, "artifacts.taskrun.storage": "tekton,oci",
			}))
			ns := m.namespaceLabelled(nil)
			m.createPolicies(ns, trusted)
			built := newTask(ns, "built", buildsImage)
			m.check(m.signer.Sign(t.Context(), built))
			m.createTask(built)
			image, err := m.registry.PushImage(t.Context(), "app")
			m.check(err)
			m.createTaskRun(ns, "run", &v1.TaskRef{Name: "built"}, func(run *v1.TaskRun) {
				run.Annotations = harness.Builds(image.Context().Name(), image.DigestStr())
			}, lastingFor(2*time.Second)) // the configuration is in force once the key is loaded
			m.expectVerifications(m.waitAttestation(ns, "run", false, soon), "Task built PASSED")
			m.waitLogged(m.controller, "Created payload of type "+format)

			run, err := cluster.Tekton.TektonV1().TaskRuns(ns).Get(t.Context(), "run", metav1.GetOptions{})
			m.check(err)
			envelope, err := harness.Envelope(run, harness.TaskRun)
			m.check(err)
			digest := strings.TrimPrefix(image.DigestStr(), "sha256:")
			for _, cosign := range harness.Cosigns {
				m.check(cosign.VerifyBlobAttestation(t.Context(), m.public, envelope, "slsaprovenance1", digest))
				out, err := cosign.VerifyAttestation(t.Context(), m.public, image, "slsaprovenance1")
				m.check(err)
				if !strings.Contains(out, "payload") {
					t.Errorf("cosign %s printed no attestation: %s", cosign.Version, out)
				}
				_, err = cosign.VerifyAttestation(t.Context(), otherKey, image, "slsaprovenance1")
				if err == nil {
					t.Errorf("cosign %s accepts the attestation with another key", cosign.Version)
				}
			}
		})
	}
}

// expectError requires an error whose message contains why.
func (e *env) expectError(err error, why string) {
	e.t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		e.t.Errorf("got error %v, want one that contains %q", err, why)
	}
}
