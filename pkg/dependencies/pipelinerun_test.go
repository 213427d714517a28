// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelinev1beta1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// withResolver returns a task of a Pipeline whose Task a resolver fetches.
func withResolver(name string) v1.PipelineTask {
	return v1.PipelineTask{Name: name, TaskRef: &v1.TaskRef{ResolverRef: resolverRef("git", param("path", text(name)))}}
}

// withChildren returns a modifier that adds a TaskRun to the status of a PipelineRun
// for each task.
func withChildren(names ...string) func(*v1.PipelineRun) {
	return func(pr *v1.PipelineRun) {
		for _, name := range names {
			child := v1.ChildStatusReference{Name: "run-" + name, PipelineTaskName: name}
			child.Kind = "TaskRun"
			pr.Status.ChildReferences = append(pr.Status.ChildReferences, child)
		}
	}
}

func TestCollectPipelineRun_ReturnsResolvedPipeline(t *testing.T) {
	stable := sign(pipeline("build", v1.PipelineTask{Name: "a"}), "own")
	beta := sign(&pipelinev1beta1.Pipeline{TypeMeta: typed(resource.Pipeline, "v1beta1"), ObjectMeta: meta("build")}, "own") //nolint:staticcheck // Tekton still takes them
	for name, tc := range map[string]struct {
		resolver v1.ResolverName
		content  resource.Object
		source   v1.RefSource
		modify   func(*v1.PipelineRun)
	}{
		"git":              {"git", stable, gitSource, func(*v1.PipelineRun) {}},
		"git, of v1beta1":  {"git", beta, gitSource, func(*v1.PipelineRun) {}},
		"cluster resolver": {"cluster", stable, clusterSource(t, stable), func(*v1.PipelineRun) {}},
		"with a parameter": {"git", stable, gitSource, func(pr *v1.PipelineRun) {
			pr.Spec.PipelineRef.Params = v1.Params{param("path", text("$(params.dir)/$(context.pipelineRun.name)"))}
			pr.Spec.Params = v1.Params{param("dir", text("pipelines"))}
		}},
		"by an address": {"git", stable, gitSource, func(pr *v1.PipelineRun) { pr.Spec.PipelineRef.Name = "https://git.example/p.yaml" }},
	} {
		t.Run(name, func(t *testing.T) {
			w, pr := newTestCluster(t), resolvedPipelineRun(tc.resolver, tc.source, tc.modify)
			request := w.resolve(pr, pipelineRequestName(t.Context(), pr), tc.content, tc.source)
			if err := recordPipelineRun(t.Context(), pr, must(asPipeline(t.Context(), tc.content))); err != nil {
				t.Fatal(err)
			}
			got := w.CollectPipelineRun(t.Context(), pr, nil)[0]
			has(t, got, tc.content, "own")
			if got.Role != Pipeline || got.Kind != resource.Pipeline || got.Name != "build" || !got.Resolved {
				t.Errorf("got %+v", got)
			}
			request.OwnerReferences[0].UID = "another"
			if got := w.CollectPipelineRun(t.Context(), pr, nil)[0]; got.Content != nil && tc.resolver != "cluster" {
				t.Errorf("the request of another run: got %+v", got)
			}
		})
	}
	pr := resolvedPipelineRun("git", gitSource)
	pr.Status.Provenance = nil
	lacks(t, newTestCluster(t).CollectPipelineRun(t.Context(), pr, nil)[0], policy.ContentUnavailable, "no source")
}

func TestPipelineRequestName_IsThatOfTekton(t *testing.T) {
	pr := resolvedPipelineRun("git", gitSource, func(pr *v1.PipelineRun) {
		pr.Spec.PipelineRef.Params = v1.Params{param("path", text("$(params.dir)/$(context.pipelineRun.name)"))}
		pr.Spec.Params = v1.Params{param("dir", text("pipelines"))}
	})
	recorder := &requestRecorder{}
	_, _, _, _ = getPipelineFunc(t, recorder, pr)(t.Context(), "build")
	if got := pipelineRequestName(t.Context(), pr); got == "" || got != recorder.name {
		t.Errorf("got %q, want %q", got, recorder.name)
	}
}

func TestCollectPipelineRun_ReturnsPipelineAndEachTask(t *testing.T) {
	build := sign(task("build", "make"), "own")
	w, pr := newTestCluster(t), resolvedPipelineRun("git", gitSource, withChildren("a", "b", "c"))
	a := resolvedRun("git", gitSource, named("run-a"), controlledBy(pr))
	w.answered(a, build)
	b := taskRun("run-b", controlledBy(pr), func(tr *v1.TaskRun) { tr.Spec.TaskSpec = &build.Spec })
	pr.Status.PipelineSpec = &v1.PipelineSpec{Tasks: []v1.PipelineTask{
		{Name: "a", TaskRef: a.Spec.TaskRef}, {Name: "b", TaskSpec: &v1.EmbeddedTask{TaskSpec: build.Spec}}, {Name: "c", TaskRef: a.Spec.TaskRef},
	}}
	got := ""
	for _, item := range w.CollectPipelineRun(t.Context(), pr, []*v1.TaskRun{a, b}) {
		got += fmt.Sprintf("%s %s %v, ", item.Role, item.Name, item.Content != nil)
	}
	// The spec of b is part of the Pipeline; The TaskRun c is deleted.
	if want := "pipeline run false, pipelineTask build true, pipelineTask run-c false, "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCollectPipelineRun_NamesTasksThatDidNotRun(t *testing.T) {
	child := v1.PipelineTask{Name: "nested", PipelineRef: &v1.PipelineRef{ResolverRef: resolverRef("git")}}
	pr := pipelineRun(withChildren("ran"))
	pr.Status.PipelineSpec = &v1.PipelineSpec{
		Tasks:   []v1.PipelineTask{withResolver("ran"), withResolver("skipped"), child, {Name: "local", TaskRef: &v1.TaskRef{Name: "x"}}, {Name: "inline", TaskSpec: embedded("x")}},
		Finally: []v1.PipelineTask{withResolver("finally")},
	}
	if got := strings.Join(newTestCluster(t).CollectPipelineRun(t.Context(), pr, nil)[0].NotRun, " "); got != "skipped nested finally" {
		t.Errorf("got %q", got)
	}
	pr.Status.PipelineSpec = nil
	if got := newTestCluster(t).CollectPipelineRun(t.Context(), pr, nil)[0].NotRun; got != nil {
		t.Errorf("got %q", got)
	}
}

func TestCollectPipelineRun_ReturnsTaskForWhichTektonRefusedTheRun(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, of string
		want       string
	}{
		"because of a Task":       {"ResourceVerificationFailed", "evil", "pipeline pipelineTask"},
		"because of the Pipeline": {"ResourceVerificationFailed", "the-pipeline", "pipeline"},
		"for another reason":      {"Failed", "evil", "pipeline"},
	} {
		pr := pipelineRun()
		pr.Status.PipelineSpec = &v1.PipelineSpec{Tasks: []v1.PipelineTask{withResolver("good"), withResolver("evil")}}
		pr.Status.SetCondition(&apis.Condition{
			Type: apis.ConditionSucceeded, Status: corev1.ConditionFalse, Reason: tc.reason,
			Message: "pipelineRun ns/run referred resource " + tc.of + " failed signature verification: why",
		})
		items := newTestCluster(t).CollectPipelineRun(t.Context(), pr, nil)
		roles := make([]string, 0, len(items))
		for _, item := range items {
			roles = append(roles, string(item.Role))
		}
		if got := strings.Join(roles, " "); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
		if len(items) > 1 {
			lacks(t, items[1], policy.ContentUnavailable, "evil")
		}
	}
}
