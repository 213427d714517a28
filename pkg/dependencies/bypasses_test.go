package dependencies

import (
	"context"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// A bundle may hold a Task and a Pipeline of one name, and its source tells
// them apart by the name only.
func TestASignedTaskDoesNotStandForAPipeline(t *testing.T) {
	bundle := v1.RefSource{URI: "registry.example/bundle", Digest: map[string]string{"sha256": "c0ffee"}, EntryPoint: "build"}
	pr := resolvedPipelineRun("bundles", bundle)
	for name, tc := range map[string]struct {
		content resource.Object
		found   bool
	}{
		"the Pipeline":   {sign(pipeline("build"), "own"), true},
		"the Task":       {sign(task("build", "make"), "own"), false},
		"the StepAction": {sign(stepAction("build", "make"), "own"), false},
	} {
		w := newWorld(t)
		w.resolve(pr, pipelineRequestName(t.Context(), pr), tc.content, bundle)
		if got := w.CollectPipelineRun(t.Context(), pr, nil)[0]; (got.Content != nil) != tc.found {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// A ResolutionRequest may be deleted after the run and made again. The status of
// a run pins what it was for a Task, not for a StepAction.
func TestARequestMadeAgainDoesNotShowWhichStepActionRan(t *testing.T) {
	step := v1.Step{Name: "a", Ref: &v1.Ref{ResolverRef: resolverRef("cluster", param("name", text("compile")))}}
	for name, run := range map[string]func(w *world, build *v1.Task) *v1.TaskRun{
		"inline": func(*world, *v1.Task) *v1.TaskRun {
			return taskRun("run", func(tr *v1.TaskRun) { tr.Spec.TaskSpec = &v1.TaskSpec{Steps: []v1.Step{step}} })
		},
		"local": func(*world, *v1.Task) *v1.TaskRun { return localRun() },
		"resolved": func(w *world, build *v1.Task) *v1.TaskRun {
			tr := resolvedRun("git", gitSource)
			w.answered(tr, build)
			return tr
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, build := newWorld(t), task("build", "", referring(step))
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
				t.Errorf("got source %v, which nothing shows", got.Source)
			}
		})
	}
}

// Nor does it for a Task whose source has no digest.
func TestASourceWithoutADigestPinsNothing(t *testing.T) {
	source := v1.RefSource{URI: "https://example/latest"}
	ran, signed := task("build", "evil"), sign(task("build", "make"), "own")
	w, tr := newWorld(t), resolvedRun("custom", source)
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
}

// Two steps may have got different content from one place.
func TestAStepActionThatChangedBetweenSteps(t *testing.T) {
	refers := func(name, path string) v1.Step {
		return v1.Step{Name: name, Ref: &v1.Ref{ResolverRef: resolverRef("cluster", param("name", text("compile")), param("why", text(path)))}}
	}
	build := task("build", "", referring(refers("a", "first"), refers("b", "second")))
	good, evil := sign(stepAction("compile", "cc"), "own"), stepAction("compile", "evil")
	w, tr := newWorld(t), localRun()
	w.resolve(tr, stepActionRequestName(t.Context(), tr, build.Spec, &build.Spec.Steps[0]), good, clusterSource(t, good))
	w.resolve(tr, stepActionRequestName(t.Context(), tr, build.Spec, &build.Spec.Steps[1]), evil, clusterSource(t, evil))
	items := w.CollectTaskRun(t.Context(), w.ran(tr, build))
	if len(items) != 3 {
		t.Fatalf("got %d items, want the Task and both StepActions", len(items))
	}
	has(t, items[1], good, "own")
	has(t, items[2], evil, "")
}

// What is in the cluster is what was there when the run began only if nobody
// has written to it since.
func TestALocalResourceThatWasWrittenTo(t *testing.T) {
	build := task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}}))
	p := pipeline("p", v1.PipelineTask{Name: "a"})
	w := newWorld(t)
	w.objects.put(stepAction("compile", "cc"), p)
	tr, pr := w.ran(localRun(), build), recorded(t, p, nil)
	pr.Spec.PipelineRef.Name = "p"
	for name, tc := range map[string]struct {
		written string
		items   func() []Dependency
	}{
		"the Task":     {"build", func() []Dependency { return w.CollectTaskRun(t.Context(), tr)[:1] }},
		"a StepAction": {"compile", func() []Dependency { return w.CollectTaskRun(t.Context(), tr)[1:] }},
		"the Pipeline": {"p", func() []Dependency { return w.CollectPipelineRun(t.Context(), pr, nil) }},
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

// Tekton fills in what it filled in again each time, and starts what it has
// after the first time. So the record of a Task may become that of another,
// which is put back after the run began.
func TestATaskWhoseRecordBecomesThatOfAnother(t *testing.T) {
	params := declaring(spec("a", nil), spec("b", nil))
	ran, signed := task("build", "$$(params.a)", params), sign(task("build", "make", params), "own")
	w := newWorld(t)
	tr := w.ran(localRun(giving(param("a", text("(params.b)")), param("b", text("make")))), ran)
	if got := tr.Status.TaskSpec.Steps[0].Script; got != "make" {
		t.Fatalf("the record says %q: Tekton does it otherwise", got)
	}
	w.objects.put(signed)
	w.written = map[string]bool{"build": true}
	lacks(t, w.one(tr), policy.ContentUnavailable, "written to")
}

// turncoat has another object each time that it is asked.
type turncoat struct {
	Objects
	each []resource.Object
}

func (o *turncoat) Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	if kind != resource.StepAction || len(o.each) == 0 {
		return o.Objects.Object(ctx, kind, namespace, name)
	}
	next := o.each[0]
	o.each = o.each[1:]
	return next, nil
}

// The content and what is replayed are the same, whatever changes meanwhile.
func TestAStepActionThatChangesWhileWeLook(t *testing.T) {
	w := newWorld(t)
	ran, signed := stepAction("compile", "evil"), sign(stepAction("compile", "cc"), "own")
	w.objects.put(ran)
	tr := w.ran(localRun(), task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}})))
	for range 3 { // whichever read comes first
		w.Objects = &turncoat{w.objects, []resource.Object{signed, ran, ran, ran}}
		lacks(t, w.CollectTaskRun(t.Context(), tr)[1], policy.ContentUnavailable, "not what ran")
	}
}

// Without its Task, nobody knows which StepActions a run had: it must not look
// as if it had none.
func TestADeletedRequestDoesNotHideStepActions(t *testing.T) {
	build := sign(task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}})), "own")
	w, tr := newWorld(t), resolvedRun("cluster", clusterSource(t, build))
	w.objects.put(stepAction("compile", "evil"))
	w.answered(tr, build)
	tr = w.ran(tr, build)
	for name, forget := range map[string]func(){
		"nothing is gone":      func() {},
		"the request is gone":  func() { clear(w.requests) },
		"the Task is gone too": func() { w.objects.remove(build) },
	} {
		forget()
		items := w.CollectTaskRun(t.Context(), tr)
		if len(items) != 2 || items[1].Role != StepAction {
			t.Errorf("%s: got %+v", name, items)
		}
	}
}

// Tekton panics on such names where nobody can recover.
func TestNamesThatAreNoRegularExpressions(t *testing.T) {
	step := v1.Step{Name: "b", Ref: &v1.Ref{ResolverRef: resolverRef("git")}, Params: v1.Params{param("(", text("$(steps.a.results.r)"))}}
	for name, refer := range map[string]func(w *world, tr *v1.TaskRun, evil resource.Object, step *v1.Step){
		"from a resolver": func(w *world, tr *v1.TaskRun, evil resource.Object, step *v1.Step) {
			w.resolve(tr, stepActionRequestName(t.Context(), tr, v1.TaskSpec{}, step), evil, gitSource)
		},
		"from the cluster": func(w *world, _ *v1.TaskRun, evil resource.Object, step *v1.Step) {
			step.Ref = &v1.Ref{Name: "evil"}
			w.objects.put(evil)
		},
	} {
		evil := stepAction("evil", "make")
		evil.Spec.Args = []string{"$(params.([0])"}
		evil.Spec.Params = v1.ParamSpecs{spec("(", nil, ofType(v1.ParamTypeArray))}
		w, tr, step := newWorld(t), localRun(), step.DeepCopy()
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

// The request of one run does not show what another ran.
func TestARequestOfAnotherName(t *testing.T) {
	w, first, second := newWorld(t), resolvedRun("git", gitSource), resolvedRun("git", gitSource, func(tr *v1.TaskRun) { tr.Name = "second" })
	w.answered(first, task("build", "make"))
	lacks(t, w.one(second), policy.ContentUnavailable, errNotFound.Error())
}

func resolvedPipelineRun(resolver v1.ResolverName, source v1.RefSource, modifiers ...func(*v1.PipelineRun)) *v1.PipelineRun {
	return pipelineRun(append([]func(*v1.PipelineRun){func(pr *v1.PipelineRun) {
		pr.Spec.PipelineRef = &v1.PipelineRef{ResolverRef: resolverRef(resolver, param("name", text("build")))}
		pr.Status.Provenance = &v1.Provenance{RefSource: &source}
	}}, modifiers...)...)
}
