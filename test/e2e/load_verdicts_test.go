// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"errors"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// verdicts are what became of the runs of a load.
type verdicts struct {
	runs, open int
	example    string // an open run
	problems   []error
}

// conditioned is a TaskRun or a PipelineRun.
type conditioned interface {
	metav1.Object
	IsDone() bool
	IsSuccessful() bool
}

// judge looks at all runs of a load: those that are done and attested have to be
// successful, verified by Tekton, and stated as such in their attestation.
func (l *runLoad) judge() (found verdicts, err error) {
	for _, ns := range l.namespaces {
		taskRuns, err := cluster.Tekton.TektonV1().TaskRuns(ns.name).List(l.t.Context(), metav1.ListOptions{})
		if err != nil {
			return found, err
		}
		for i := range taskRuns.Items {
			run := &taskRuns.Items[i]
			found.add(run, run.Status.GetCondition(apis.ConditionSucceeded), l.problemOf(run, harness.TaskRun, run.Status.GetCondition(verifiedByTekton)))
		}
		pipelineRuns, err := cluster.Tekton.TektonV1().PipelineRuns(ns.name).List(l.t.Context(), metav1.ListOptions{})
		if err != nil {
			return found, err
		}
		for i := range pipelineRuns.Items {
			run := &pipelineRuns.Items[i]
			found.add(run, run.Status.GetCondition(apis.ConditionSucceeded), l.problemOf(run, harness.PipelineRun, run.Status.GetCondition(verifiedByTekton)))
		}
		differs, err := cluster.Kube.CoreV1().Events(ns.name).List(l.t.Context(), metav1.ListOptions{FieldSelector: "reason=" + v1alpha1.ReasonVerificationDiffers})
		if err != nil {
			return found, err
		}
		for _, event := range differs.Items {
			found.problems = append(found.problems, fmt.Errorf("Event on %s/%s: %s", ns.name, event.InvolvedObject.Name, event.Message))
		}
	}
	return found, nil
}

const verifiedByTekton = trustedresources.ConditionTrustedResourcesVerified

// add counts a run. problem is what is wrong with its verification.
func (v *verdicts) add(run conditioned, succeeded *apis.Condition, problem error) {
	v.runs++
	name := run.GetNamespace() + "/" + run.GetName()
	switch {
	case run.IsDone() && !run.IsSuccessful():
		v.problems = append(v.problems, fmt.Errorf("%s failed: %s: %s", name, succeeded.Reason, succeeded.Message))
	case !run.IsDone() || run.GetAnnotations()[chainsSigned] != "true":
		v.open++
		v.example = name
	case problem != nil:
		v.problems = append(v.problems, fmt.Errorf("%s: %w", name, problem))
	}
}

// problemOf returns what is wrong with the verification of a run that is attested.
func (l *runLoad) problemOf(run metav1.Object, kind harness.RunKind, verified *apis.Condition) error {
	if run.GetAnnotations()[chainsSigned] != "true" {
		return nil
	}
	if !verified.IsTrue() {
		return fmt.Errorf("Tekton's verification is %+v", verified)
	}
	payload, err := harness.Attestation(run, kind, l.attestedBy)
	if err != nil {
		return err
	}
	provenance, err := harness.ParseProvenance(payload)
	if err != nil {
		return err
	}
	summary, err := provenance.Summary()
	switch {
	case err != nil:
		return err
	case summary == nil:
		return fmt.Errorf("the attestation has no summary of the verification")
	case summary.Result != "PASSED":
		verifications, err := provenance.Verifications()
		return errors.Join(fmt.Errorf("the attestation says %s (%s): %+v", summary.Result, summary.Agreement, verifications), err)
	}
	return nil
}
