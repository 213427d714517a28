// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// removeManifest deletes a file of config/admission until the policies are installed
// again or the test ends.
func (e *env) removeManifest(file string) {
	e.t.Helper()
	_, err := cluster.RunKubectl(e.t.Context(), "", "delete", "-f", manifest(file))
	e.check(err)
}

func manifest(file string) string { return filepath.Join(harness.Root(), "config", "admission", file) }

// The controller says by what the API server does, not by which policies exist, whether
// enforcement works.
func TestGate_ReportsWhetherItIsInForce(t *testing.T) {
	e := startController(t)
	settings, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
	e.check(err)
	e.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyWarn})
	e.waitLogged(e.controller, "Gate or guards are not in force, and no namespace is enforced")
	e.enforced()
	e.waitEvent(settings, v1alpha1.ReasonGateNotInForce, "gets no scheduling gate", "that Tekton did not create is accepted")
	e.waitMetric("trustedresources_gate_held 0")

	e.installAdmission()
	e.waitEvent(settings, v1alpha1.ReasonGateInForce)
	e.waitMetric("trustedresources_gate_held 1")
	e.waitMetric("trustedresources_gate_guarded 1")

	e.removeManifest("510-hold-pods.yaml")
	e.waitMetric("trustedresources_gate_held 0")
	e.waitMetric("trustedresources_gate_guarded 1")
	e.waitEvent(settings, v1alpha1.ReasonGateNotInForce, "the scheduling gate trustedresources.tekton.dev/verified is missing")
}

// While nothing adds the scheduling gate, Tekton cannot create Pods in an enforced
// namespace, and says so.
func TestGuards_RefusePodsThatNothingHolds(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	guarded, free := e.enforced(), e.namespaceLabelled(nil)
	e.removeManifest("510-hold-pods.yaml")
	e.eventually(soon, func() error {
		_, err := e.as(tektonAccount).Kube.CoreV1().Pods(guarded).Create(t.Context(), harness.PodOfTaskRun("any-pod"), dryRunCreate)
		if err == nil || !strings.Contains(err.Error(), "nothing holds this Pod") {
			return fmt.Errorf("a Pod that nothing holds: %w", orUnlimited(err))
		}
		return nil
	})
	for ns, want := range map[string]string{guarded: "nothing holds this Pod", free: ""} {
		run := newTaskRun(ns, "run", nil)
		run.Spec.TaskSpec = &v1.TaskSpec{Steps: []v1.Step{{Name: "only", Image: "alpine", Script: "echo"}}}
		run, err := cluster.Run(t.Context(), run, soon)
		e.check(err)
		condition := run.Status.GetCondition(apis.ConditionSucceeded)
		if condition.IsTrue() != (want == "") || !strings.Contains(condition.Message, want) {
			t.Errorf("the TaskRun is %s: %s, want %q in the message", condition.Reason, condition.Message, want)
		}
	}
}

// In an enforced namespace without the label for signing, local references get the
// resolver, too. Where nothing rewrites them, they are refused.
func TestGuards_RefuseLocalReferencesThatNothingRewrites(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	ns := e.enforced()
	taskRun := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{GenerateName: "r-"}, Spec: v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "any"}}}
	pipelineRun := &v1.PipelineRun{ObjectMeta: metav1.ObjectMeta{GenerateName: "r-"}, Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "any"}}}
	rewritten, err := cluster.Tekton.TektonV1().TaskRuns(ns).Create(t.Context(), taskRun, dryRunCreate)
	e.check(err)
	if got := rewritten.Spec.TaskRef; got.Resolver != "cluster" || got.Name != "" {
		t.Errorf("the taskRef is %+v, want the cluster resolver", got)
	}
	rewrittenPipeline, err := cluster.Tekton.TektonV1().PipelineRuns(ns).Create(t.Context(), pipelineRun, dryRunCreate)
	e.check(err)
	if got := rewrittenPipeline.Spec.PipelineRef; got.Resolver != "cluster" || got.Name != "" {
		t.Errorf("the pipelineRef is %+v, want the cluster resolver", got)
	}
	e.removeManifest("500-rewrite-taskruns.yaml")
	e.removeManifest("501-rewrite-pipelineruns.yaml")
	e.eventually(soon, func() error {
		_, taskErr := cluster.Tekton.TektonV1().TaskRuns(ns).Create(t.Context(), taskRun, dryRunCreate)
		_, pipelineErr := cluster.Tekton.TektonV1().PipelineRuns(ns).Create(t.Context(), pipelineRun, dryRunCreate)
		for _, err := range []error{taskErr, pipelineErr} {
			if err == nil || !strings.Contains(err.Error(), "Tekton does not verify") {
				return errors.Join(errors.New("a local reference"), orUnlimited(err))
			}
		}
		return nil
	})
	taskRun.Spec.TaskRef = &v1.TaskRef{ResolverRef: harness.ClusterRef("Task", ns, "any")}
	_, err = cluster.Tekton.TektonV1().TaskRuns(ns).Create(t.Context(), taskRun, dryRunCreate)
	e.check(err)
}
