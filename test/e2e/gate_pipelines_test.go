// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// waitPipelineDone waits until a PipelineRun has ended.
func (e *env) waitPipelineDone(namespace, name string) *v1.PipelineRun {
	e.t.Helper()
	var run *v1.PipelineRun
	e.eventually(2*soon, func() error {
		var err error
		run, err = cluster.Tekton.TektonV1().PipelineRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
		if err == nil && !run.IsDone() {
			err = fmt.Errorf("PipelineRun %s/%s: %+v", namespace, name, run.Status.GetCondition(apis.ConditionSucceeded))
		}
		return err
	})
	return run
}

// A verified Pipeline runs under the gate with everything that Tekton offers: specs that
// are a part of the Pipeline, matrix, when, results, retries and tasks that run finally.
func TestGate_RunsVerifiedPipeline(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.createSigned(ns, "produce")
	g.signedTask(ns, "consume", func(t *v1.Task) {
		t.Spec.Params = v1.ParamSpecs{{Name: "in", Type: v1.ParamTypeString}, {Name: "os", Type: v1.ParamTypeString, Default: v1.NewStructuredValues("none")}}
	})
	embedded := &v1.EmbeddedTask{TaskSpec: newTask("", "").Spec}
	consume := &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "consume")}
	param := func(value string) v1.Params {
		return v1.Params{{Name: "in", Value: *v1.NewStructuredValues(value)}}
	}
	g.createPipeline(ns, "all",
		v1.PipelineTask{Name: "build", TaskRef: &v1.TaskRef{Name: "produce"}, Retries: 1},
		v1.PipelineTask{Name: "embedded", TaskSpec: embedded, RunAfter: []string{"build"}},
		v1.PipelineTask{Name: "consume", TaskRef: consume, Params: param("$(tasks.build.results.IMAGE_URL)")},
		v1.PipelineTask{Name: "fan-out", TaskRef: consume, Params: param("x"), Matrix: &v1.Matrix{Params: v1.Params{
			{Name: "os", Value: *v1.NewStructuredValues("linux", "mac")},
		}}},
		v1.PipelineTask{Name: "skipped", TaskRef: &v1.TaskRef{Name: "produce"}, When: v1.WhenExpressions{{
			Input: "a", Operator: "in", Values: []string{"b"},
		}}},
	)
	pipelines := cluster.Tekton.TektonV1().Pipelines(ns)
	pipeline, err := pipelines.Get(t.Context(), "all", metav1.GetOptions{})
	g.check(err)
	pipeline.Spec.Finally = []v1.PipelineTask{{Name: "cleanup", TaskRef: consume, Params: param("$(tasks.build.status)")}}
	g.check(g.signer.Sign(t.Context(), pipeline))
	_, err = pipelines.Update(t.Context(), pipeline, metav1.UpdateOptions{})
	g.check(err)

	g.createPipelineRun(ns, "run", "all", 0)
	g.expectSuccess(g.waitPipelineDone(ns, "run"))
	p := g.waitAttestation(ns, "run", true, soon)
	g.expectResult(p, "PASSED")
	if _, summary := g.verificationStatus(p); summary.Gate.Decision != "RELEASED" {
		t.Errorf("the gate has decision %+v, want RELEASED", summary.Gate)
	}
}

// Each attempt of a TaskRun has a Pod of its own, and each Pod is held.
func TestGate_HoldsEachAttempt(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.signedTask(ns, "fails")
	started := g.recordStarted(ns)
	g.createTaskRun(ns, "run", &v1.TaskRef{Name: "fails"}, func(run *v1.TaskRun) {
		run.Spec.Retries = 2
		run.Annotations["kubelet.localcluster/exit-code"] = "1"
	})
	if run := g.waitDone(ns, "run"); run.IsSuccessful() || len(run.Status.RetriesStatus) != 2 {
		t.Errorf("the run has retries %d, want 2, and success %v", len(run.Status.RetriesStatus), run.IsSuccessful())
	}
	if got := started.names(); len(got) != 3 {
		t.Errorf("the Pods %q started, want three", got)
	}
	g.waitMetric(`trustedresources_gate_decisions_total{decision="released"} 3`)
}

// A PipelineRun ends when one of its TaskRuns is refused. Tekton does not try that
// TaskRun again.
func TestGate_EndsPipelineRunOfUnverifiedTask(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.createSigned(ns, "signed")
	g.createTask(newTask(ns, "unsigned", buildsImage))
	started := g.recordStarted(ns)
	g.createPipeline(ns, "mixed",
		v1.PipelineTask{Name: "build", TaskRef: &v1.TaskRef{Name: "unsigned"}, Retries: 3},
		v1.PipelineTask{Name: "later", TaskRef: &v1.TaskRef{Name: "signed"}, RunAfter: []string{"build"}})
	g.createPipelineRun(ns, "mixed", "mixed", 0)
	if run := g.waitPipelineDone(ns, "mixed"); run.IsSuccessful() {
		t.Error("the PipelineRun succeeded")
	}
	g.expectHeldBack(g.waitDone(ns, "mixed-build"), "Task "+ns+"/unsigned", "Unsigned")

	unsigned := newPipeline(ns, "unsigned", v1.PipelineTask{Name: "build", TaskRef: &v1.TaskRef{Name: "signed"}})
	g.createObject(unsigned)
	pr := g.runLocalPipelineRef(ns, "by-name", "unsigned")
	g.waitPipelineDone(ns, pr)
	g.expectHeldBack(g.waitDone(ns, pr+"-build"), "Pipeline "+ns+"/unsigned", "Unsigned")
	if got := started.names(); len(got) != 0 {
		t.Errorf("the Pods %q started, want none", got)
	}
}

// runLocalPipelineRef starts a PipelineRun that names its Pipeline without a resolver.
func (e *env) runLocalPipelineRef(namespace, name, pipeline string) string {
	e.t.Helper()
	_, err := cluster.Tekton.TektonV1().PipelineRuns(namespace).Create(e.t.Context(), &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: pipeline}},
	}, metav1.CreateOptions{})
	e.check(err)
	return name
}

// A TaskRun of a PipelineRun starts only if all TaskRuns so far are what their tasks ask
// for: somebody may have put one in the place of a task, whose results the next uses.
func TestGate_RefusesAfterReplacedTaskRun(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.createSigned(ns, "check")
	g.createSigned(ns, "harmless")
	started := g.recordStarted(ns)
	check := &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "check")}
	g.createPipeline(ns, "checked",
		v1.PipelineTask{Name: "build", TaskRef: check},
		v1.PipelineTask{Name: "deploy", TaskRef: check, RunAfter: []string{"build"}})
	// The TaskRun of the first task exists before the PipelineRun, which adopts it.
	g.createTaskRunAs(g.asEditor(ns), newTaskRun(ns, "run-build", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "harmless")}))
	g.expectSuccess(g.waitDone(ns, "run-build"))
	g.createPipelineRun(ns, "run", "checked", 0)
	g.expectHeldBack(g.waitDone(ns, "run-deploy"), "ReferenceMismatch", "run-build")
	if slices.Contains(started.names(), "run-deploy-pod") {
		t.Error("the second task started")
	}
	g.createPipelineRun(ns, "honest", "checked", 0)
	g.expectSuccess(g.waitPipelineDone(ns, "honest"))
}

// A finished TaskRun is deleted while the PipelineRun is in progress, so that another
// one of its name runs. Tekton, or somebody else, creates that one: the gate cannot tell
// which, nor what the first one did to a workspace. The next task does not start.
func TestGate_RefusesAfterTaskRunWasDeleted(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.createSigned(ns, "check")
	started := g.recordStarted(ns)
	check := &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "check")}
	g.createPipeline(ns, "checked",
		v1.PipelineTask{Name: "build", TaskRef: check},
		v1.PipelineTask{Name: "deploy", TaskRef: check, RunAfter: []string{"build"}})
	g.createPipelineRun(ns, "run", "checked", 5*time.Second)
	g.waitUnderway(ns, "run-build")
	g.check(g.asEditor(ns).Tekton.TektonV1().TaskRuns(ns).Delete(t.Context(), "run-build", metav1.DeleteOptions{}))
	g.waitPipelineDone(ns, "run")
	if slices.Contains(started.names(), "run-deploy-pod") {
		t.Error("the second task started")
	}
}
