package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/config"
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
		payload, err := harness.Payload(run, kind, e.public)
		if err != nil {
			return err
		}
		parsed, err = harness.ParseProvenance(payload)
		return err
	})
	return parsed
}

func (e *env) theRun(namespace, name string, pipeline bool) (metav1.Object, string, error) {
	if pipeline {
		run, err := cluster.Tekton.TektonV1().PipelineRuns(namespace).Get(e.Context(), name, metav1.GetOptions{})
		return run, "pipelinerun", err
	}
	run, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.Context(), name, metav1.GetOptions{})
	return run, "taskrun", err
}

// Each run's attestation says of each resource behind it what is so.
func TestVerificationStatusInAttestations(t *testing.T) {
	e := start(t)
	e.configure(withProvenance)
	m := newMatrix(e)

	namespaces := map[situation]string{}
	labelled := map[situation]string{}
	for _, s := range situations {
		namespaces[s] = e.namespaceWith(nil)
		labelled[s] = e.namespaceWith(map[string]string{config.NamespaceLabel: "true"})
		m.policies(namespaces[s], s)
		m.policies(labelled[s], s)
	}
	var cells []*cell
	for _, s := range situations {
		for _, r := range references {
			for _, pipeline := range []bool{false, true} {
				c := &cell{reference: r, situation: s, pipeline: pipeline, namespace: namespaces[s]}
				if r == byAdmission {
					continue // TODO
				}
				cells = append(cells, c)
			}
		}
	}
	for i, c := range cells {
		m.begin(c, fmt.Sprintf("run-%d", i))
		if c.lasts() {
			m.interfere(*c)
		}
	}
	deadline := time.Now().Add(2 * time.Minute) // for all of them together
	for _, c := range cells {
		t.Run(c.String(), func(t *testing.T) {
			e := e.in(t)
			e.says(*c, e.attestation(c.namespace, c.run.GetName(), c.pipeline, max(time.Until(deadline), time.Second)), m.signer)
		})
	}
}

// says checks an attestation against what the cell wants.
func (e *env) says(c cell, p *harness.Provenance, signer harness.Signer) {
	e.Helper()
	verifications, err := p.Verifications()
	e.check(err)
	summary, err := p.Summary()
	e.check(err)
	if summary == nil {
		e.Fatal("there is no summary")
	}
	result, reason, mode := c.want()
	if summary.Result != result {
		e.Errorf("the summary says %s, want %s", summary.Result, result)
	}
	all := append(verifications, summary.Others...)
	var kinds []string
	for _, v := range all {
		kinds = append(kinds, v.Kind)
		if v.Result != result || v.Reason != reason || v.Mode != mode {
			e.Errorf("%s %s: got %s %q %q, want %s %q %q", v.Kind, v.Name, v.Result, v.Reason, v.Mode, result, reason, mode)
		}
	}
	want := "Task"
	switch {
	case c.pipeline && (c.reference == inline || !c.runs()):
		want = "Pipeline"
	case c.pipeline:
		want = "Pipeline Task"
	}
	if got := strings.Join(kinds, " "); got != want {
		e.Errorf("the attestation is about %q, want %q", got, want)
	}
	if e.Failed() {
		e.Logf("summary: %+v", summary)
		e.Logf("verifications: %+v", all)
	}
}
