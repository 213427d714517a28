// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// A bundle may hold a Task and a Pipeline with one name. Its source has the name
// and not the kind.
func TestCollectPipelineRun_RejectsResolvedObjectOfAnotherKind(t *testing.T) {
	bundle := v1.RefSource{URI: "registry.example/bundle", Digest: map[string]string{"sha256": "c0ffee"}, EntryPoint: "build"}
	pr := resolvedPipelineRun("bundles", bundle)
	for name, tc := range map[string]struct {
		content resource.Object
		found   bool
	}{
		"Pipeline":   {sign(pipeline("build"), "own"), true},
		"Task":       {sign(task("build", "make"), "own"), false},
		"StepAction": {sign(stepAction("build", "make"), "own"), false},
	} {
		w := newTestCluster(t)
		pr.Status.PipelineSpec = &pipeline("build").Spec
		w.resolve(pr, pipelineRequestName(t.Context(), pr), tc.content, bundle)
		if got := w.CollectPipelineRun(t.Context(), pr, nil)[0]; (got.Content != nil) != tc.found {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// A ResolutionRequest may be deleted after the run and created again. The status of
// the run pins the content of a Task, not that of a StepAction.
func TestCollectTaskRun_RejectsStepActionOfRecreatedRequest(t *testing.T) {
	step := v1.Step{Name: "a", Ref: &v1.Ref{ResolverRef: resolverRef("cluster", param("name", text("compile")))}}
	for name, run := range map[string]func(w *testCluster, build *v1.Task) *v1.TaskRun{
		"inline": func(*testCluster, *v1.Task) *v1.TaskRun {
			return taskRun("run", func(tr *v1.TaskRun) { tr.Spec.TaskSpec = &v1.TaskSpec{Steps: []v1.Step{step}} })
		},
		"local": func(*testCluster, *v1.Task) *v1.TaskRun { return localRun() },
		"resolved": func(w *testCluster, build *v1.Task) *v1.TaskRun {
			tr := resolvedRun("git", gitSource)
			w.answered(tr, build)
			return tr
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, build := newTestCluster(t), task("build", "", referring(step))
			tr := run(w, build)
			ran, signed := stepAction("compile", "evil"), sign(stepAction("compile", "cc"), "own")
			request := stepActionRequestName(t.Context(), tr, build.Spec, &step)
			w.resolve(tr, request, ran, clusterSource(t, ran))
			tr = w.ran(tr, build)
			has(t, w.CollectTaskRun(t.Context(), tr)[1], ran, "")
			w.resolve(tr, request, signed, clusterSource(t, signed))
			got := w.CollectTaskRun(t.Context(), tr)[1]
			lacks(t, got, policy.ContentUnavailable, "not what ran")
			if got.Source.Digest != nil {
				t.Errorf("got source %v, which is not proven", got.Source)
			}
		})
	}
}

// The digest of a commit or of a bundle is not that of the content. So a request that
// was deleted after the run and created again may have the recorded source and another
// content.
func TestCollect_RejectsRecreatedRequest(t *testing.T) {
	for name, source := range map[string]v1.RefSource{
		"without digest": {URI: "https://example/latest"},
		"git":            gitSource,
		"bundles":        {URI: "registry.example/bundle", Digest: map[string]string{"sha256": "c0ffee"}, EntryPoint: "build"},
	} {
		t.Run(name, func(t *testing.T) {
			ran, signed := task("build", "evil"), sign(task("build", "make"), "own")
			w, tr := newTestCluster(t), resolvedRun("custom", source)
			w.answered(tr, ran)
			tr = w.ran(tr, ran)
			has(t, w.one(tr), ran, "")
			w.answered(tr, signed)
			lacks(t, w.one(tr), policy.ContentUnavailable, "not what ran")

			pr, first := resolvedPipelineRun("custom", source), pipeline("p", v1.PipelineTask{Name: "evil"})
			w.resolve(pr, pipelineRequestName(t.Context(), pr), first, source)
			if err := recordPipelineRun(t.Context(), pr, first); err != nil {
				t.Fatal(err)
			}
			has(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], first, "")
			w.resolve(pr, pipelineRequestName(t.Context(), pr), sign(pipeline("p", v1.PipelineTask{Name: "good"}), "own"), source)
			lacks(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], policy.ContentUnavailable, "not the one that ran")
		})
	}
}

// One StepAction may change between two steps that refer to it.
func TestCollectTaskRun_ReturnsBothContentsOfStepActionThatChanged(t *testing.T) {
	refers := func(name, path string) v1.Step {
		return v1.Step{Name: name, Ref: &v1.Ref{ResolverRef: resolverRef("cluster", param("name", text("compile")), param("why", text(path)))}}
	}
	build := task("build", "", referring(refers("a", "first"), refers("b", "second")))
	good, evil := sign(stepAction("compile", "cc"), "own"), stepAction("compile", "evil")
	w, tr := newTestCluster(t), localRun()
	w.resolve(tr, stepActionRequestName(t.Context(), tr, build.Spec, &build.Spec.Steps[0]), good, clusterSource(t, good))
	w.resolve(tr, stepActionRequestName(t.Context(), tr, build.Spec, &build.Spec.Steps[1]), evil, clusterSource(t, evil))
	items := w.CollectTaskRun(t.Context(), w.ran(tr, build))
	if len(items) != 3 {
		t.Fatalf("got %d items, want the Task and both StepActions", len(items))
	}
	has(t, items[1], good, "own")
	has(t, items[2], evil, "")
}

// An object that was written to after the creation of the run may be another than
// the one that ran.
func TestCollect_RejectsLocalObjectWrittenAfterCreationOfRun(t *testing.T) {
	build := task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}}))
	p := pipeline("p", v1.PipelineTask{Name: "a"})
	w := newTestCluster(t)
	w.objects.put(stepAction("compile", "cc"), p)
	tr, pr := w.ran(localRun(), build), recorded(t, p, nil)
	pr.Spec.PipelineRef.Name = "p"
	for name, tc := range map[string]struct {
		written string
		items   func() []Dependency
	}{
		"Task":       {"build", func() []Dependency { return w.CollectTaskRun(t.Context(), tr)[:1] }},
		"StepAction": {"compile", func() []Dependency { return w.CollectTaskRun(t.Context(), tr)[1:] }},
		"Pipeline":   {"p", func() []Dependency { return w.CollectPipelineRun(t.Context(), pr, nil) }},
	} {
		w.written = nil
		for _, item := range tc.items() {
			if item.Content == nil {
				t.Errorf("%s, before: %s", name, item.Unavailable.Message)
			}
		}
		w.written = map[string]bool{tc.written: true}
		for _, item := range tc.items() {
			lacks(t, item, policy.ContentUnavailable, "written to")
		}
	}
}

// Tekton substitutes in the recorded spec each time, and starts the Pod after the
// first time. So the recorded spec may become that of another Task, which somebody
// puts into the cluster after the run began.
func TestCollectTaskRun_RejectsTaskThatLaterSubstitutionMatches(t *testing.T) {
	params := declaring(spec("a", nil), spec("b", nil))
	ran, signed := task("build", "$$(params.a)", params), sign(task("build", "make", params), "own")
	w := newTestCluster(t)
	tr := w.ran(localRun(giving(param("a", text("(params.b)")), param("b", text("make")))), ran)
	if got := tr.Status.TaskSpec.Steps[0].Script; got != "make" {
		t.Fatalf("the recorded script is %q: Tekton substitutes in another way than this test expects", got)
	}
	w.objects.put(signed)
	w.written = map[string]bool{"build": true}
	lacks(t, w.one(tr), policy.ContentUnavailable, "written to")
}

// changingObjects returns another StepAction for each read.
type changingObjects struct {
	Objects
	each []resource.Object
}

func (o *changingObjects) Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	if kind != resource.StepAction || len(o.each) == 0 {
		return o.Objects.Object(ctx, kind, namespace, name)
	}
	next := o.each[0]
	o.each = o.each[1:]
	return next, nil
}

// The replay uses the content whose checksum is reported, even if the object changes
// during the collection.
func TestCollectTaskRun_ReplaysTheContentThatItReports(t *testing.T) {
	w := newTestCluster(t)
	ran, signed := stepAction("compile", "evil"), sign(stepAction("compile", "cc"), "own")
	w.objects.put(ran)
	tr := w.ran(localRun(), task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}})))
	for range 3 {
		w.Objects = &changingObjects{w.objects, []resource.Object{signed, ran, ran, ran}}
		lacks(t, w.CollectTaskRun(t.Context(), tr)[1], policy.ContentUnavailable, "not what ran")
	}
}

// Without its Task, it is not known which StepActions a run had. The result must not
// look as if there were none.
func TestCollectTaskRun_ReportsStepActionsOfDeletedTask(t *testing.T) {
	build := sign(task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}})), "own")
	w, tr := newTestCluster(t), resolvedRun("cluster", clusterSource(t, build))
	w.objects.put(stepAction("compile", "evil"))
	w.answered(tr, build)
	tr = w.ran(tr, build)
	for name, remove := range map[string]func(){
		"nothing is deleted":           func() {},
		"request is deleted":           func() { clear(w.requests) },
		"request and Task are deleted": func() { w.objects.remove(build) },
	} {
		remove()
		items := w.CollectTaskRun(t.Context(), tr)
		if len(items) != 2 || items[1].Role != StepAction {
			t.Errorf("%s: got %+v", name, items)
		}
	}
}

// Tekton panics on such names in a goroutine of its own.
func TestCollectTaskRun_RejectsParamNameThatIsNoRegularExpression(t *testing.T) {
	step := v1.Step{Name: "b", Ref: &v1.Ref{ResolverRef: resolverRef("git")}, Params: v1.Params{param("(", text("$(steps.a.results.r)"))}}
	for name, refer := range map[string]func(w *testCluster, tr *v1.TaskRun, evil resource.Object, step *v1.Step){
		"from a resolver": func(w *testCluster, tr *v1.TaskRun, evil resource.Object, step *v1.Step) {
			w.resolve(tr, stepActionRequestName(t.Context(), tr, v1.TaskSpec{}, step), evil, gitSource)
		},
		"from the cluster": func(w *testCluster, _ *v1.TaskRun, evil resource.Object, step *v1.Step) {
			step.Ref = &v1.Ref{Name: "evil"}
			w.objects.put(evil)
		},
	} {
		evil := stepAction("evil", "make")
		evil.Spec.Args = []string{"$(params.([0])"}
		evil.Spec.Params = v1.ParamSpecs{spec("(", nil, ofType(v1.ParamTypeArray))}
		w, tr, step := newTestCluster(t), localRun(), step.DeepCopy()
		refer(w, tr, evil, step)
		build := task("build", "", referring(v1.Step{Name: "a", Image: "alpine"}, *step))
		w.objects.put(build)
		tr.Status.TaskSpec = &build.Spec
		for _, item := range w.CollectTaskRun(t.Context(), tr) {
			if item.Content != nil {
				t.Errorf("%s: got %+v", name, item)
			}
		}
	}
}

func TestCollectTaskRun_IgnoresRequestOfAnotherRun(t *testing.T) {
	w, first, second := newTestCluster(t), resolvedRun("git", gitSource), resolvedRun("git", gitSource, func(tr *v1.TaskRun) { tr.Name = "second" })
	w.answered(first, task("build", "make"))
	lacks(t, w.one(second), policy.ContentUnavailable, errNotFound.Error())
}

func resolvedPipelineRun(resolver v1.ResolverName, source v1.RefSource, modifiers ...func(*v1.PipelineRun)) *v1.PipelineRun {
	return pipelineRun(append([]func(*v1.PipelineRun){func(pr *v1.PipelineRun) {
		pr.Spec.PipelineRef = &v1.PipelineRef{ResolverRef: resolverRef(resolver, param("name", text("build")))}
		pr.Status.Provenance = &v1.Provenance{RefSource: &source}
	}}, modifiers...)...)
}
