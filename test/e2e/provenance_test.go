// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// withProvenance is a configuration that adds the verification status to the
// attestations of runs and signs no resources.
var withProvenance = map[string]string{
	"artifacts.taskrun.format":            "slsa/v2alpha4",
	"artifacts.pipelinerun.format":        "slsa/v2alpha4",
	"artifacts.pipelinerun.storage":       "tekton",
	"artifacts.taskrun.storage":           "tekton",
	"artifacts.oci.signer":                "none",
	"trustedresources.provenance.enabled": "true",
}

// waitAttestation waits for the attestation of a run, verifies its signature and parses
// it strictly.
func (e *env) waitAttestation(namespace, name string, pipeline bool, within time.Duration) *harness.Provenance {
	e.t.Helper()
	var parsed *harness.Provenance
	e.eventually(within, func() error {
		run, kind, err := e.getRun(namespace, name, pipeline)
		if err != nil {
			return err
		}
		if signed := run.GetAnnotations()[chainsSigned]; signed != "true" {
			return fmt.Errorf("%s %s: annotation %s is %q", kind, name, chainsSigned, signed)
		}
		payload, err := harness.Attestation(run, kind, e.public)
		if err != nil {
			return err
		}
		parsed, err = harness.ParseProvenance(payload)
		return err
	})
	return parsed
}

func (e *env) getRun(namespace, name string, pipeline bool) (metav1.Object, harness.RunKind, error) {
	if pipeline {
		run, err := cluster.Tekton.TektonV1().PipelineRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
		return run, harness.PipelineRun, err
	}
	run, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
	return run, harness.TaskRun, err
}

// For each way to refer to a resource and each situation, the attestation states the
// right result for each resource of the run.
func TestAttestation_StatesVerificationOfEachResource(t *testing.T) {
	e := startController(t)
	e.configure(withProvenance)
	e.installAdmission()
	m := newMatrix(e)
	cells := make([]*cell, 0, 2*len(references)*len(situations))
	for _, s := range situations {
		plain := e.namespaceLabelled(nil)
		admitted := e.namespace()
		m.createPolicies(plain, s)
		m.createPolicies(admitted, s)
		for _, r := range references {
			for _, pipeline := range []bool{false, true} {
				c := &cell{reference: r, situation: s, pipeline: pipeline, namespace: plain}
				if r == byAdmission {
					c.namespace = admitted
				}
				cells = append(cells, c)
			}
		}
	}
	slices.SortStableFunc(cells, func(a, b *cell) int { // runs with a time limit come first, while the machine is idle
		return cmp.Compare(a.rank(), b.rank())
	})
	for i, c := range cells {
		m.startRun(c, fmt.Sprintf("run-%d", i))
		if c.lasts() {
			m.changeResources(*c)
		}
	}
	deadline := time.Now().Add(harness.TimeLimit(2 * time.Minute)) // for all attestations together
	for _, c := range cells {
		t.Run(c.String(), func(t *testing.T) {
			m := &matrix{env: e.sub(t), signer: m.signer}
			m.expectAttestation(*c, e.waitAttestation(c.namespace, c.run.GetName(), c.pipeline, max(time.Until(deadline), time.Second)))
		})
	}
}

// expectAttestation compares an attestation with the expectations of the cell.
func (m *matrix) expectAttestation(c cell, p *harness.Provenance) {
	m.t.Helper()
	verifications, summary := m.verificationStatus(p)
	result, reason, mode := c.want()
	if summary.Result != result {
		m.t.Errorf("the summary has result %s, want %s", summary.Result, result)
	}
	if status, agreement := c.wantTekton(); summary.Tekton.Status != status || summary.Agreement != agreement {
		m.t.Errorf("Tekton's condition and agreement: got %s %s, want %s %s", summary.Tekton.Status, summary.Agreement, status, agreement)
	}
	all := slices.Concat(verifications, summary.Others)
	kinds := make([]string, 0, len(all))
	for _, v := range all {
		kinds = append(kinds, v.Kind)
		if v.Result != result || v.Reason != reason || v.Mode != mode {
			m.t.Errorf("%s %s: got %s %q %q, want %s %q %q", v.Kind, v.Name, v.Result, v.Reason, v.Mode, result, reason, mode)
		}
		m.expectEntry(c, v)
	}
	want := "Task"
	switch {
	case c.pipeline && (c.reference == inline || !c.runs()):
		want = "Pipeline"
	case c.pipeline:
		want = "Pipeline Task"
	}
	if got := strings.Join(kinds, " "); got != want {
		m.t.Errorf("the attestation covers resources of the kinds %q, want %q", got, want)
	}
	if m.t.Failed() {
		m.t.Logf("summary: %+v", summary)
		m.t.Logf("verifications: %+v", verifications)
	}
}

// expectEntry checks the key, the policies and the digest in the entry of one resource.
func (m *matrix) expectEntry(c cell, v harness.Verification) {
	m.t.Helper()
	public, err := m.signer.PublicKey()
	m.check(err)
	id, err := keys.KeyID(public)
	m.check(err)
	if v.Result == "PASSED" && (v.KeyID != id || v.Policy != "trust") {
		m.t.Errorf("%s: passed with key %q of policy %q, want %q of trust", v.Kind, v.KeyID, v.Policy, id)
	}
	if c.situation == twoPolicies && c.reference != inline {
		if len(v.Policies) != 2 || v.Policies[0].Result != "PASSED" || v.Policies[1].Result != "FAILED" || v.Policy != "second" {
			m.t.Errorf("%s: got policies %+v, want that the first passed and the second failed", v.Kind, v.Policies)
		}
	}
	known := c.reference != inline && v.Reason != "ContentUnavailable"
	if known && len(v.Dependency.GetDigest()) == 0 {
		m.t.Errorf("%s: the dependency has no digest: %v", v.Kind, v.Dependency)
	}
	if !known && len(v.Dependency.GetDigest()) != 0 {
		m.t.Errorf("%s: the dependency has a digest although the content is unknown: %v", v.Kind, v.Dependency)
	}
}

// verificationStatus returns the verification status in an attestation. It fails the
// test if there is none, or if the status does not match the schema.
func (e *env) verificationStatus(p *harness.Provenance) ([]harness.Verification, *harness.Summary) {
	e.t.Helper()
	verifications, err := p.Verifications()
	e.check(err)
	summary, err := p.Summary()
	e.check(err)
	if summary == nil {
		e.t.Fatal("the attestation has no summary of verifications")
	}
	e.check(harness.ValidateVerification(p))
	return verifications, summary
}
