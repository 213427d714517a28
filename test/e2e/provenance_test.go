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

// withProvenance has Chains sign runs with the verification status in their
// attestations, and no resource signed.
var withProvenance = map[string]string{
	"artifacts.taskrun.format":            "slsa/v2alpha4",
	"artifacts.pipelinerun.format":        "slsa/v2alpha4",
	"artifacts.pipelinerun.storage":       "tekton",
	"artifacts.taskrun.storage":           "tekton",
	"artifacts.oci.signer":                "none",
	"trustedresources.provenance.enabled": "true",
}

// attestation waits for what Chains signs for a run, verifies its signature and
// reads it strictly.
func (e *env) attestation(namespace, name string, pipeline bool, within time.Duration) *harness.Provenance {
	e.Helper()
	var parsed *harness.Provenance
	e.eventually(within, func() error {
		run, kind, err := e.theRun(namespace, name, pipeline)
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

func (e *env) theRun(namespace, name string, pipeline bool) (metav1.Object, harness.RunKind, error) {
	if pipeline {
		run, err := cluster.Tekton.TektonV1().PipelineRuns(namespace).Get(e.Context(), name, metav1.GetOptions{})
		return run, harness.PipelineRun, err
	}
	run, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.Context(), name, metav1.GetOptions{})
	return run, harness.TaskRun, err
}

// Each run's attestation says of each resource behind it what is so.
func TestAttestation_StatesVerificationOfEachResource(t *testing.T) {
	e := start(t)
	e.configure(withProvenance)
	e.installAdmission()
	m := newMatrix(e)
	cells := make([]*cell, 0, 2*len(references)*len(situations))
	for _, s := range situations {
		plain := e.namespaceWith(nil)
		admitted := e.namespace()
		m.policies(plain, s)
		m.policies(admitted, s)
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
	slices.SortStableFunc(cells, func(a, b *cell) int { // before the machine has much to do
		return cmp.Compare(a.rank(), b.rank())
	})
	for i, c := range cells {
		m.begin(c, fmt.Sprintf("run-%d", i))
		if c.lasts() {
			m.interfere(*c)
		}
	}
	deadline := time.Now().Add(2 * time.Minute) // for all of them together
	for _, c := range cells {
		t.Run(c.String(), func(t *testing.T) {
			m := &matrix{env: e.in(t), signer: m.signer}
			m.says(*c, e.attestation(c.namespace, c.run.GetName(), c.pipeline, max(time.Until(deadline), time.Second)))
		})
	}
}

// says checks an attestation against what the cell wants.
func (m *matrix) says(c cell, p *harness.Provenance) {
	m.Helper()
	verifications, summary := m.status(p)
	result, reason, mode := c.want()
	if summary.Result != result {
		m.Errorf("the summary says %s, want %s", summary.Result, result)
	}
	if status, agreement := c.wantTekton(); summary.Tekton.Status != status || summary.Agreement != agreement {
		m.Errorf("Tekton's condition: got %s %s, want %s %s", summary.Tekton.Status, summary.Agreement, status, agreement)
	}
	all := slices.Concat(verifications, summary.Others)
	kinds := make([]string, 0, len(all))
	for _, v := range all {
		kinds = append(kinds, v.Kind)
		if v.Result != result || v.Reason != reason || v.Mode != mode {
			m.Errorf("%s %s: got %s %q %q, want %s %q %q", v.Kind, v.Name, v.Result, v.Reason, v.Mode, result, reason, mode)
		}
		m.names(c, v)
	}
	want := "Task"
	switch {
	case c.pipeline && (c.reference == inline || !c.runs()):
		want = "Pipeline"
	case c.pipeline:
		want = "Pipeline Task"
	}
	if got := strings.Join(kinds, " "); got != want {
		m.Errorf("the attestation is about %q, want %q", got, want)
	}
	if m.Failed() {
		m.Logf("summary: %+v", summary)
		m.Logf("verifications: %+v", verifications)
	}
}

// names checks what the entry of one resource says of keys, policies and
// digests.
func (m *matrix) names(c cell, v harness.Verification) {
	m.Helper()
	public, err := m.signer.PublicKey()
	m.check(err)
	id, err := keys.KeyID(public)
	m.check(err)
	if v.Result == "PASSED" && (v.KeyID != id || v.Policy != "trust") {
		m.Errorf("%s: passed with key %q of policy %q, want %q of trust", v.Kind, v.KeyID, v.Policy, id)
	}
	if c.situation == twoPolicies && c.reference != inline {
		if len(v.Policies) != 2 || v.Policies[0].Result != "PASSED" || v.Policies[1].Result != "FAILED" || v.Policy != "second" {
			m.Errorf("%s: got policies %+v, want that the first passed and the second failed", v.Kind, v.Policies)
		}
	}
	known := c.reference != inline && v.Reason != "ContentUnavailable"
	if known && len(v.Dependency.GetDigest()) == 0 {
		m.Errorf("%s: the dependency has no digest: %v", v.Kind, v.Dependency)
	}
	if !known && len(v.Dependency.GetDigest()) != 0 {
		m.Errorf("%s: a digest is claimed: %v", v.Kind, v.Dependency)
	}
}

// status is what an attestation says, which must be there and be as the schema
// wants it.
func (e *env) status(p *harness.Provenance) ([]harness.Verification, *harness.Summary) {
	e.Helper()
	verifications, err := p.Verifications()
	e.check(err)
	summary, err := p.Summary()
	e.check(err)
	if summary == nil {
		e.Fatal("there is no summary")
	}
	e.check(harness.ValidateVerification(p))
	return verifications, summary
}
