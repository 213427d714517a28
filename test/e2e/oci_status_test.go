// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// startStoringWithStatus starts a controller that stores resources in a registry and
// adds the verification status to attestations.
func startStoringWithStatus(t *testing.T, storage string) (*matrix, *harness.Registry) {
	t.Helper()
	e := newEnv(t)
	registry := e.startRegistry()
	settings := maps.Clone(withProvenance)
	maps.Copy(settings, storingSettings(registry.Host(), storage))
	e.configure(settings)
	e.controller = e.addReplica("controller")
	return &matrix{env: e}, registry
}

var runEnds = harness.TimeLimit(time.Minute)

// A run uses a bundle that the controller has stored. The attestation names the digest
// of the bundle and the key that signed the resource.
func TestAttestation_NamesStoredBundle(t *testing.T) {
	m, registry := startStoringWithStatus(t, "tekton,oci")
	ns, away := m.namespace(), m.namespaceLabelled(nil)
	m.check(cluster.TrustFrom(t.Context(), away, regexp.QuoteMeta(registry.Host())+"/tekton/.*", m.public))
	created := m.createTask(newTask(ns, "build", buildsImage))
	found := m.waitStored(newReader(registry.Host()), created)

	m.createTaskRun(away, "run", &v1.TaskRef{ResolverRef: harness.BundleRef(found.Reference, resource.Task, "build")})
	verifications, summary := m.verificationStatus(m.waitAttestation(away, "run", false, runEnds))
	if summary.Result != "PASSED" || summary.Agreement != "AGREES" || len(verifications) != 1 {
		t.Fatalf("got %+v, %+v", summary, verifications)
	}
	v := verifications[0]
	if v.KeyID != m.keyID() || !strings.HasSuffix(found.Reference, v.Dependency.GetDigest()["sha256"]) {
		t.Errorf("the attestation names key %s and digest %v, want %s and %s", v.KeyID, v.Dependency.GetDigest(), m.keyID(), found.Reference)
	}
}

// The Task is deleted, but its signature is still in the registry. While the registry
// does not respond, the attestation states no verification result.
func TestAttestation_UsesSignatureInRegistry(t *testing.T) {
	m, registry := startStoringWithStatus(t, "oci")
	ns := m.namespace()
	m.check(cluster.Trust(t.Context(), ns, m.public))
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Patch(t.Context(), "trust", types.MergePatchType,
		[]byte(`{"spec":{"mode":"`+v1alpha1.ModeWarn+`"}}`), metav1.PatchOptions{}) // warn, because the object in the cluster is not signed
	m.check(err)
	created := m.createTask(newTask(ns, "build", buildsImage))
	m.waitStored(newReader(registry.Host()), created)

	byCluster := &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "build")}
	m.createTaskRun(ns, "run", byCluster, lastingFor(5*time.Second))
	m.waitUnderway(ns, "run")
	m.createTaskRun(ns, "later", byCluster, lastingFor(15*time.Second))
	m.waitUnderway(ns, "later")
	m.check(cluster.DeleteResource(t.Context(), resource.Task, ns, "build"))

	verifications, _ := m.verificationStatus(m.waitAttestation(ns, "run", false, runEnds))
	if got := describe(verifications); got != "Task build PASSED" || verifications[0].KeyID != m.keyID() {
		t.Errorf("got %s with key %s, want Task build PASSED with key %s", got, verifications[0].KeyID, m.keyID())
	}
	m.check(registry.Stop())
	m.expectVerifications(m.waitAttestation(ns, "later", false, runEnds), "Task build SKIPPED SignatureUnavailable")
}
