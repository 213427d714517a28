// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A policy is replaced by one with the same name while a run is in progress. The
// attestation shows which of the two made the verdict.
func TestAttestation_NamesRevisionOfPolicy(t *testing.T) {
	m := startWithStatus(t)
	ns := m.namespaceLabelled(nil)
	m.createPolicy(ns, "trust", ".*", v1alpha1.ModeEnforce, m.signer)
	built := newTask(ns, "built", buildsImage)
	m.check(m.signer.Sign(t.Context(), built))
	m.createTask(built)
	byCluster := &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "built")}

	m.createTaskRun(ns, "before", byCluster)
	m.expectRevision(ns, "before", m.policy(ns))

	m.createTaskRun(ns, "replaced", byCluster, lasting)
	m.waitUnderway(ns, "replaced")
	first := m.policy(ns)
	policies := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns)
	m.check(policies.Delete(t.Context(), "trust", metav1.DeleteOptions{}))
	manifest := fmt.Sprintf(`{apiVersion: tekton.dev/v1alpha1, kind: VerificationPolicy, metadata: {namespace: %s, name: trust}, spec: {
		resources: [{pattern: 'https://<é>&"\d"|.*'}], authorities: [{name: key, key: {data: %q}}]}}`,
		ns, first.Spec.Authorities[0].Key.Data)
	m.kubectlApply(strings.Replace(manifest, "spec: {", `spec: {mode: "",`, 1)) // Tekton's webhook removes the empty field
	second := m.policy(ns)
	m.expectRevision(ns, "replaced", second)
	if first.UID == second.UID || first.ResourceVersion == second.ResourceVersion {
		t.Errorf("the policy was not replaced: both have UID %s", first.UID)
	}
	written, err := cluster.RunKubectl(t.Context(), manifest, "create", "--dry-run=client", "--filename", "-", "--output", "json")
	m.check(err)
	if got, want := m.specSHA256(written), m.specSHA256(m.printed(ns)); got != want {
		t.Errorf("the hash of the manifest is %s, that of the policy in the cluster %s", got, want)
	}
}

func (m *matrix) policy(namespace string) *v1alpha1.VerificationPolicy {
	m.t.Helper()
	p, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(namespace).Get(m.t.Context(), "trust", metav1.GetOptions{})
	m.check(err)
	return p
}

// expectRevision waits for the attestation of a TaskRun, and compares the revision of the
// policy in it with that of the policy in the cluster.
func (m *matrix) expectRevision(namespace, run string, want *v1alpha1.VerificationPolicy) {
	m.t.Helper()
	verifications, summary := m.verificationStatus(m.waitAttestation(namespace, run, false, soon))
	if summary.SchemaVersion != 2 || len(verifications) != 1 {
		m.t.Fatalf("got %+v with %+v, want one entry in version 2 of the schema", summary, verifications)
	}
	got := verifications[0]
	if got.Result != "PASSED" || got.Policy != "trust" || got.PolicyRevision.UID != string(want.UID) || got.PolicyRevision.ResourceVersion != want.ResourceVersion {
		m.t.Errorf("%s: got %+v, want policy trust with UID %s at %s", run, got, want.UID, want.ResourceVersion)
	}
	if sum := m.specSHA256(m.printed(namespace)); got.PolicyRevision.SpecSHA256 != sum {
		m.t.Errorf("%s: the hash of the spec is %s, want %s", run, got.PolicyRevision.SpecSHA256, sum)
	}
}

// printed returns the policy trust as kubectl prints it.
func (m *matrix) printed(namespace string) string {
	m.t.Helper()
	policy, err := cluster.RunKubectl(m.t.Context(), "", "--namespace", namespace, "get", "verificationpolicy", "trust", "--output", "json")
	m.check(err)
	return policy
}

// specSHA256 returns the hash of the spec as an auditor computes it, from what kubectl
// prints.
func (m *matrix) specSHA256(printed string) string {
	m.t.Helper()
	var policy struct {
		Spec map[string]any `json:"spec"`
	}
	m.check(json.Unmarshal([]byte(printed), &policy))
	var canonical strings.Builder
	encoder := json.NewEncoder(&canonical) // sorts the fields
	encoder.SetEscapeHTML(false)
	m.check(encoder.Encode(policy.Spec))
	sum := sha256.Sum256([]byte(strings.TrimSuffix(canonical.String(), "\n")))
	if _, err := exec.LookPath("jq"); err != nil {
		m.t.Logf("jq is not installed, so its output is not compared: %v", err)
		return hex.EncodeToString(sum[:])
	}
	jq := exec.CommandContext(m.t.Context(), "jq", "-jcS", ".spec")
	jq.Stdin = strings.NewReader(printed)
	output, err := jq.Output()
	m.check(err)
	if byJQ := sha256.Sum256(output); byJQ != sum {
		m.t.Errorf("jq prints %s, want %s", output, &canonical)
	}
	return hex.EncodeToString(sum[:])
}
