// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	pipelineapi "github.com/tektoncd/pipeline/pkg/apis/pipeline"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/kmeta"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// newChildren returns a matrix with a namespace that trusts signed resources, with a
// signed Task "harmless" in it.
func newChildren(t *testing.T) (m *matrix, namespace string, harmless *v1.TaskRef) {
	t.Helper()
	m = startWithStatus(t)
	namespace = m.namespaceLabelled(nil)
	m.createPolicies(namespace, trusted)
	m.createSigned(namespace, "harmless")
	return m, namespace, &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, "harmless")}
}

func (m *matrix) createSigned(namespace, name string, modifiers ...func(*v1.Task)) {
	m.t.Helper()
	task := newTask(namespace, name, append(modifiers, buildsImage)...)
	m.check(m.signer.Sign(m.t.Context(), task))
	m.createTask(task)
}

// createPipeline creates a signed Pipeline. Its first task is named "build".
func (m *matrix) createPipeline(namespace, name string, tasks ...v1.PipelineTask) {
	m.t.Helper()
	pipeline := newPipeline(namespace, name, tasks...)
	m.check(m.signer.Sign(m.t.Context(), pipeline))
	m.createObject(pipeline)
}

// createPipelineRun creates a run whose TaskRuns last for a time each.
func (m *matrix) createPipelineRun(namespace, name, pipeline string, lasting time.Duration) *v1.PipelineRun {
	m.t.Helper()
	annotations := harness.BuildsImage()
	annotations["kubelet.localcluster/duration"] = harness.TimeLimit(lasting).String()
	run, err := cluster.Tekton.TektonV1().PipelineRuns(namespace).Create(m.t.Context(), &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations},
		Spec:       v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{ResolverRef: harness.ClusterRef(resource.Pipeline, namespace, pipeline)}},
	}, metav1.CreateOptions{})
	m.check(err)
	return run
}

// pretending makes a TaskRun look like the run of a task of a PipelineRun.
func pretending(pr *v1.PipelineRun, task string) func(*v1.TaskRun) {
	return func(run *v1.TaskRun) {
		run.OwnerReferences = []metav1.OwnerReference{*kmeta.NewControllerRef(pr)}
		run.Labels = map[string]string{
			pipelineapi.PipelineRunLabelKey: pr.Name, pipelineapi.PipelineTaskLabelKey: task, pipelineapi.MemberOfLabelKey: "tasks",
			pipelineapi.PipelineRunUIDLabelKey: string(pr.UID),
		}
	}
}

// expectResult checks the result of a whole run.
func (m *matrix) expectResult(p *harness.Provenance, want string) {
	m.t.Helper()
	if _, summary := m.verificationStatus(p); summary.Result != want {
		m.t.Errorf("the summary has result %s, want %s: %+v", summary.Result, want, summary)
	}
}

// Tekton adopts a finished TaskRun that has the name of a task's run, whatever the
// TaskRun ran.
func TestAttestation_FailsTaskRunCreatedBeforeThePipelineRun(t *testing.T) {
	m, ns, harmless := newChildren(t)
	m.createSigned(ns, "check")
	m.createPipeline(ns, "checked", v1.PipelineTask{Name: "build", TaskRef: &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "check")}})
	m.createTaskRunAs(m.asEditor(ns), newTaskRun(ns, "run-build", harmless))
	m.waitAttestation(ns, "run-build", false, soon)

	m.createPipelineRun(ns, "run", "checked", 0)
	p := m.waitAttestation(ns, "run", true, soon)
	m.expectVerifications(p, "Pipeline checked PASSED", "Task harmless FAILED ReferenceMismatch")
	m.expectResult(p, "FAILED")
	m.createPipelineRun(ns, "honest", "checked", 0)
	p = m.waitAttestation(ns, "honest", true, soon)
	m.expectVerifications(p, "Pipeline checked PASSED", "Task check PASSED")
	m.expectResult(p, "PASSED")
}

// Tekton adopts a TaskRun with the labels of a task's run, under any name.
func TestAttestation_FailsTaskRunWithLabelsOfATask(t *testing.T) {
	m, ns, harmless := newChildren(t)
	m.createSigned(ns, "check")
	m.createPipeline(ns, "checked",
		v1.PipelineTask{Name: "build", TaskRef: harmless},
		v1.PipelineTask{Name: "check", RunAfter: []string{"build"}, TaskRef: &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "check")}})
	pr := m.createPipelineRun(ns, "run", "checked", 5*time.Second)
	m.waitUnderway(ns, "run-build")
	m.createTaskRunAs(m.asEditor(ns), newTaskRun(ns, "anything", harmless, pretending(pr, "check")))
	p := m.waitAttestation(ns, "run", true, soon)
	m.expectVerifications(p, "Pipeline checked PASSED", "Task harmless PASSED", "Task harmless FAILED ReferenceMismatch")
	m.expectResult(p, "FAILED")
}

// A finished TaskRun is deleted while somebody creates another one in its place. The
// attestation does not pass for the other one, whether Tekton creates the TaskRun
// again first or not.
func TestAttestation_DoesNotPassForSwappedTaskRun(t *testing.T) {
	m, ns, harmless := newChildren(t)
	m.createTask(newTask(ns, "evil", buildsImage))
	m.createPipeline(ns, "swapped",
		v1.PipelineTask{Name: "build", TaskRef: &v1.TaskRef{Name: "evil"}}, // Tekton does not verify a local name
		v1.PipelineTask{Name: "last", TaskRef: harmless, RunAfter: []string{"build"}})
	pr := m.createPipelineRun(ns, "run", "swapped", 5*time.Second)
	m.waitAttestation(ns, "run-build", false, soon)

	m.swap(m.asEditor(ns), newTaskRun(ns, "run-build", harmless, pretending(pr, "build")))
	p := m.waitAttestation(ns, "run", true, harness.TimeLimit(time.Minute))
	verifications, summary := m.verificationStatus(p)
	t.Logf("verifications:\n%s", describe(verifications))
	if summary.Result == "PASSED" || summary.Counts.Passed > 2 { // the Pipeline and its last task
		t.Errorf("the attestation passes for a swapped TaskRun: %+v", summary)
	}
}

// swap deletes a TaskRun while eight loops create another one of the same name.
func (m *matrix) swap(user *harness.Cluster, run *v1.TaskRun) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), soon)
	defer cancel()
	runs := user.Tekton.TektonV1().TaskRuns(run.Namespace)
	old, err := runs.Get(ctx, run.Name, metav1.GetOptions{})
	m.check(err)
	var loops sync.WaitGroup
	for range 8 {
		loops.Go(func() {
			for ctx.Err() == nil {
				if _, err := runs.Create(ctx, run, metav1.CreateOptions{}); err == nil {
					m.t.Logf("TaskRun %s was created in the place of another", run.Name)
					cancel()
				}
				if now, err := runs.Get(ctx, run.Name, metav1.GetOptions{}); err == nil && now.UID != old.UID {
					cancel() // Tekton was faster
				}
			}
		})
	}
	m.check(runs.Delete(m.t.Context(), run.Name, metav1.DeleteOptions{}))
	loops.Wait()
}

// If a TaskRun is deleted, Tekton runs its task again. What ran before is not known
// any more.
func TestAttestation_SkipsTaskRunInThePlaceOfAnother(t *testing.T) {
	m, ns, harmless := newChildren(t)
	m.createPipeline(ns, "again",
		v1.PipelineTask{Name: "build", TaskRef: harmless},
		v1.PipelineTask{Name: "last", TaskRef: harmless, RunAfter: []string{"build"}})
	m.createPipelineRun(ns, "run", "again", 5*time.Second)
	m.waitAttestation(ns, "run-build", false, soon)
	m.check(cluster.Tekton.TektonV1().TaskRuns(ns).Delete(t.Context(), "run-build", metav1.DeleteOptions{}))
	p := m.waitAttestation(ns, "run", true, harness.TimeLimit(time.Minute))
	m.expectVerifications(p, "Pipeline again PASSED", "Task harmless PASSED", "Task harmless SKIPPED ContentUnavailable")
	m.expectResult(p, "SKIPPED")
}

// The TaskRuns of an honest PipelineRun count, also those whose references, specs and
// parameters Tekton fills in while the PipelineRun is in progress.
func TestAttestation_PassesForEveryWayToFillInParameters(t *testing.T) {
	m, ns, harmless := newChildren(t)
	takes := func(params ...string) func(*v1.Task) {
		return func(task *v1.Task) {
			for _, name := range params {
				task.Spec.Params = append(task.Spec.Params, v1.ParamSpec{Name: name, Type: v1.ParamTypeString})
			}
		}
	}
	m.createSigned(ns, "takes", takes("a", "b"))
	given := func(values ...string) (params v1.Params) {
		for i, value := range values {
			params = append(params, v1.Param{Name: string(rune('a' + i)), Value: *v1.NewStructuredValues(value)})
		}
		return params
	}
	named := harness.ClusterRef(resource.Task, ns, "$(params.which)")
	takesRef := &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "takes")}
	pipeline := newPipeline(ns, "filled",
		v1.PipelineTask{Name: "build", TaskRef: harmless},
		v1.PipelineTask{Name: "by-param", TaskRef: &v1.TaskRef{ResolverRef: named}, Params: given("$(params.which)", "$(context.pipelineRun.name)")},
		v1.PipelineTask{Name: "results", TaskRef: takesRef, Retries: 2,
			Params: given("$(tasks.build.results.IMAGE_URL)", "$(tasks.build.results['IMAGE_DIGEST'])-$(context.pipelineTask.retries)")},
		v1.PipelineTask{Name: "fan", TaskRef: takesRef, Params: given("same"), Matrix: &v1.Matrix{
			Params: v1.Params{{Name: "b", Value: v1.ParamValue{Type: v1.ParamTypeArray, ArrayVal: []string{"x", "$(tasks.build.results.IMAGE_URL)"}}}}}},
		v1.PipelineTask{Name: "spec", TaskSpec: &v1.EmbeddedTask{TaskSpec: v1.TaskSpec{
			Steps: []v1.Step{{Image: "alpine", Script: "echo $(tasks.build.results.IMAGE_URL) $(params.which)"}}}}},
	)
	pipeline.Spec.Params = v1.ParamSpecs{{Name: "which", Type: v1.ParamTypeString}}
	pipeline.Spec.Finally = []v1.PipelineTask{{Name: "end", TaskRef: takesRef, Params: given("$(tasks.status)", "$(tasks.build.status) $(tasks.fan.reason)")}}
	m.check(m.signer.Sign(t.Context(), pipeline))
	m.createObject(pipeline)
	_, err := cluster.Tekton.TektonV1().PipelineRuns(ns).Create(t.Context(), &v1.PipelineRun{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "run", Annotations: harness.BuildsImage()},
		Spec: v1.PipelineRunSpec{PipelineRef: &v1.PipelineRef{Name: "filled"},
			Params: v1.Params{{Name: "which", Value: *v1.NewStructuredValues("takes")}}},
	}, metav1.CreateOptions{})
	m.check(err)
	p := m.waitAttestation(ns, "run", true, harness.TimeLimit(time.Minute))
	takesPassed := slices.Repeat([]string{"Task takes PASSED"}, 5) // by-param, results, two of the matrix, end
	m.expectVerifications(p, append(takesPassed, "Pipeline filled PASSED", "Task harmless PASSED")...)
	m.expectResult(p, "PASSED")
}
