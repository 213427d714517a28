// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/racedetector"
)

// repeated returns a text with that many references.
func repeated(reference string, times int) string { return strings.Repeat(reference, times) }

// within fails the test if f holds more memory than a collection may, or takes too long.
func within(t *testing.T, f func()) {
	t.Helper()
	const maxHeap, maxTime = 96 << 20, racedetector.Slowdown * 20 * time.Second
	defer debug.SetGCPercent(debug.SetGCPercent(30)) // so that little of the heap is garbage
	runtime.GC()
	before, start, done := heap(), time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	most := before
	sample := time.NewTicker(5 * time.Millisecond)
	defer sample.Stop()
	for running := true; running; {
		select {
		case <-sample.C:
		case <-done:
			running = false
		}
		most = max(most, heap())
	}
	if held, took := most-before, time.Since(start); held > maxHeap || took > maxTime {
		t.Errorf("held %d MiB and took %v, want at most %d MiB and %v", held>>20, took, maxHeap>>20, maxTime)
	}
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// chainOf returns parameters that each refer to the next one.
func chainOf(length, times int) (params v1.Params) {
	for i := range length {
		params = append(params, param(fmt.Sprintf("p%d", i), text(repeated(fmt.Sprintf("$(params.p%d)", i+1), times))))
	}
	return append(params, param(fmt.Sprintf("p%d", length), text("end")))
}

// asDefaults returns parameters as declarations with defaults.
func asDefaults(params v1.Params) (declared v1.ParamSpecs) {
	for _, p := range params {
		declared = append([]v1.ParamSpec{spec(p.Name, &p.Value)}, declared...)
	}
	return declared
}

func many(n int, value *v1.ParamValue) (params v1.Params) {
	for i := range n {
		params = append(params, param(fmt.Sprintf("p%d", i), value))
	}
	return params
}

func workspaces(length, times int) (declared []v1.WorkspaceDeclaration) {
	for i := range length {
		path := repeated(fmt.Sprintf("$(workspaces.w%d.path)", i+1), times)
		declared = append(declared, v1.WorkspaceDeclaration{Name: fmt.Sprintf("w%d", i), MountPath: path})
	}
	return append(declared, v1.WorkspaceDeclaration{Name: fmt.Sprintf("w%d", length), MountPath: "/end"})
}

// Each of these TaskRuns takes gigabytes or minutes if Tekton's functions substitute in
// it without a bound.
func TestCollectTaskRun_RefusesRunsThatExpand(t *testing.T) {
	withSpec := func(modify func(*v1.TaskSpec)) func(*v1.Task) {
		return func(t *v1.Task) { modify(&t.Spec) }
	}
	for name, tc := range map[string]struct {
		given v1.Params
		task  *v1.Task
	}{
		"a parameter that refers to itself": {v1.Params{param("a", text(repeated("$(params.a)", 5000)))}, task("build", "$(params.a)")},
		"parameters that refer to the next": {chainOf(4, 5000), task("build", "$(params.p0)")},
		"references made by substitution":   {v1.Params{param("a", text(repeated("$$(params.b)", 5000))), param("b", text("(params.a)"))}, task("build", "$(params.a)")},
		"defaults that refer to the next":   {nil, task("build", "$(params.p0)", declaring(asDefaults(chainOf(4, 5000))...))},
		"defaults that refer to themselves": {nil, task("build", "$(params.a)", declaring(spec("a", text("$(params.a)$(params.a)"))))},
		"a list": {v1.Params{param("l", array(strings.Split(strings.Repeat("x,", 2000), ",")...))}, task("build", "", withSpec(func(s *v1.TaskSpec) {
			s.Steps[0].Args = strings.Split(strings.TrimSuffix(strings.Repeat("$(params.l[*]),", 5000), ","), ",")
		}))},
		"a list in a when expression": {v1.Params{param("l", array(strings.Repeat("\x01", 100_000)))}, task("build", "", withSpec(func(s *v1.TaskSpec) {
			s.Steps[0].When = make(v1.WhenExpressions, 1000)
			for i := range s.Steps[0].When {
				s.Steps[0].When[i] = v1.WhenExpression{Input: "$(params.l[*])", Operator: selection.In}
			}
		}))},
		"an object": {v1.Params{param("o", v1.NewObject(map[string]string{"k": repeated("$(params.o.k)", 5000)}))}, task("build", "$(params.o.k)")},
		"paths that refer to the next": {nil, task("build", repeated("$(workspaces.w0.path)", 1000), withSpec(func(s *v1.TaskSpec) {
			s.Workspaces = workspaces(4, 1000)
		}))},
		"a long path": {nil, task("build", repeated("$(workspaces.w.path)", 5000), withSpec(func(s *v1.TaskSpec) {
			s.Workspaces = []v1.WorkspaceDeclaration{{Name: "w", MountPath: "/" + strings.Repeat("x", 100_000)}}
		}))},
		"a long path of one step": {nil, task("build", repeated("$(workspaces.w.path)", 5000), withSpec(func(s *v1.TaskSpec) {
			s.Workspaces = []v1.WorkspaceDeclaration{{Name: "w"}}
			s.Steps[0].Workspaces = []v1.WorkspaceUsage{{Name: "w", MountPath: "/" + strings.Repeat("x", 100_000)}}
		}))},
		"many parameters and texts": {many(10_000, text("x")), task("build", "$(params.p0)", withSpec(func(s *v1.TaskSpec) {
			for range 2000 {
				s.Steps = append(s.Steps, s.Steps[0])
			}
		}))},
		"more parameters": {many(100_000, text("x")), task("build", "$(params.p0)")},
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newTestCluster(t), localRun(giving(tc.given...))
			w.objects.put(tc.task)
			tr.Status.TaskSpec = &task("build", "ran").Spec
			within(t, func() { lacks(t, w.one(tr), policy.ContentUnavailable, errSubstitution.Error()) })
		})
	}
}

// The references of a run are substituted before its content is known.
func TestCollectTaskRun_RefusesReferencesThatExpand(t *testing.T) {
	bomb := v1.Params{param("a", text(strings.Repeat("x", 100_000)))}
	refers := resolverRef("git", param("path", text(repeated("$(params.a)", 5000))))

	w, tr := newTestCluster(t), resolvedRun("git", gitSource, giving(bomb...))
	tr.Spec.TaskRef.Params = refers.Params
	within(t, func() { lacks(t, w.one(tr), policy.ContentUnavailable, errSubstitution.Error()) })

	pr := resolvedPipelineRun("git", gitSource, func(pr *v1.PipelineRun) { pr.Spec.Params = bomb })
	pr.Spec.PipelineRef.Params = refers.Params
	within(t, func() {
		lacks(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], policy.ContentUnavailable, errSubstitution.Error())
	})

	inline := taskRun("inline", giving(bomb...), func(tr *v1.TaskRun) {
		tr.Spec.TaskSpec = &v1.TaskSpec{Steps: []v1.Step{{Ref: &v1.Ref{ResolverRef: refers}}}}
		tr.Status.TaskSpec = &task("build", "ran").Spec
	})
	within(t, func() {
		lacks(t, w.CollectTaskRun(t.Context(), inline)[1], policy.ContentUnavailable, errSubstitution.Error())
	})
}

func TestCollectTaskRun_RefusesStepActionsThatExpand(t *testing.T) {
	for name, tc := range map[string]struct {
		declared v1.ParamSpecs
		given    v1.Params
		script   string
		steps    int
	}{
		"a parameter of the step": {v1.ParamSpecs{spec("a", nil)}, v1.Params{param("a", text(strings.Repeat("x", 100_000)))}, repeated("$(params.a)", 5000), 1},
		"a parameter of the run":  {v1.ParamSpecs{spec("a", nil)}, v1.Params{param("a", text(repeated("$(params.run)", 5000)))}, "$(params.a)", 1},
		"defaults":                {asDefaults(chainOf(4, 5000)), nil, "$(params.p0)", 1},
		"defaults and given parameters that refer to each other": {
			v1.ParamSpecs{spec("a", nil), spec("b", nil), spec("c", nil), spec("all", text("$(params.a)$(params.b)$(params.c)"))},
			v1.Params{param("a", text(repeated("$(params.b)", 1000))), param("b", text(repeated("$(params.c)", 1000))), param("c", text(repeated("x", 1000)))},
			"$(params.all)", 1,
		},
		"a reference made of a default and a given parameter": {
			v1.ParamSpecs{spec("a", nil), spec("b", nil), spec("all", text(repeated("$(params.a)ams.b)", 1000)+"$(params.b)"))},
			v1.Params{param("a", text("$(par")), param("b", text(strings.Repeat("x", 100_000)))}, "$(params.all)", 1,
		},
		"one long StepAction for many steps": {nil, nil, strings.Repeat("x", 1<<20), 50},
		"more steps than a Pod has":          {nil, nil, "make", maxStepActions + 1},
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := newTestCluster(t), localRun(giving(param("run", text(strings.Repeat("y", 100_000)))))
			action := stepAction("compile", tc.script)
			action.Spec.Params = tc.declared
			steps := make([]v1.Step, tc.steps)
			for i := range steps {
				steps[i] = v1.Step{Name: fmt.Sprintf("step-%d", i), Ref: &v1.Ref{Name: "compile"}, Params: tc.given}
			}
			w.objects.put(action, task("build", "", referring(steps...), declaring(spec("run", nil))))
			tr.Status.TaskSpec = &task("build", "ran").Spec
			within(t, func() {
				for _, item := range w.CollectTaskRun(t.Context(), tr) {
					lacks(t, item, policy.ContentUnavailable, "")
				}
			})
		})
	}
}

func TestCollectPipelineRun_RefusesRunsThatExpand(t *testing.T) {
	withParam := func(value *v1.ParamValue) *v1.Pipeline {
		return pipeline("p", v1.PipelineTask{Name: "a", Params: v1.Params{param("p", value)}})
	}
	list := array(strings.Split(strings.TrimSuffix(strings.Repeat("$(params.l[*]),", 2000), ","), ",")...)
	ownParams := withParam(text(repeated("$(params.a)", 5000)))
	ownParams.Spec.Tasks[0].TaskSpec = embedded("$(params.p)")
	for name, tc := range map[string]struct {
		given    v1.Params
		defaults v1.ParamSpecs
		pipeline *v1.Pipeline
	}{
		"a parameter that refers to itself": {v1.Params{param("a", text(repeated("$(params.a)", 5000)))}, nil, withParam(text("$(params.a)"))},
		"parameters that refer to the next": {chainOf(4, 5000), nil, withParam(text("$(params.p0)"))},
		"defaults that refer to the next":   {nil, asDefaults(chainOf(4, 5000)), withParam(text("$(params.p0)"))},
		"a list":                            {v1.Params{param("l", list)}, nil, withParam(array("$(params.l[*])"))},
		"a parameter of a task":             {v1.Params{param("a", text(strings.Repeat("x", 100_000)))}, nil, ownParams},
		"many defaults":                     {nil, asDefaults(chainOf(5_000, 1)), withParam(text("$(params.p0)"))},
		"more parameters":                   {many(100_000, text("x")), nil, withParam(text("$(params.p0)"))},
	} {
		t.Run(name, func(t *testing.T) {
			w, pr := newTestCluster(t), pipelineRun()
			tc.pipeline.Spec.Params = tc.defaults
			w.objects.put(tc.pipeline)
			pr.Spec.PipelineRef, pr.Spec.Params = &v1.PipelineRef{Name: "p"}, tc.given
			pr.Status.PipelineSpec = &withParam(text("ran")).Spec
			if list := tc.pipeline.Spec.Tasks[0].Params[0].Value.Type == v1.ParamTypeArray; list {
				pr.Status.PipelineSpec = &withParam(array("ran")).Spec
			}
			pr.Status.PipelineSpec.Params = tc.defaults
			pr.Status.PipelineSpec.Tasks[0].TaskSpec = tc.pipeline.Spec.Tasks[0].TaskSpec
			within(t, func() {
				lacks(t, w.CollectPipelineRun(t.Context(), pr, nil)[0], policy.ContentUnavailable, errSubstitution.Error())
			})
		})
	}
}

// What honest runs have stays within the bounds.
func TestCollect_ProvesLargeRuns(t *testing.T) {
	script := strings.Repeat("# x < y && $HOME $(date)\n", 4_000) + repeated("$(params.p1) $(workspaces.w.path)\n", 1000)
	large := task("build", script, declaring(asDefaults(chainOf(20, 1))...), func(t *v1.Task) {
		t.Spec.Workspaces = []v1.WorkspaceDeclaration{{Name: "w"}}
		for i := range 20 {
			t.Spec.Steps = append(t.Spec.Steps, v1.Step{Name: fmt.Sprintf("step-%d", i), Image: "alpine", Args: []string{"$(params.list[*])"}})
		}
	})
	given := append(many(100, text("value")), param("list", array(strings.Split(strings.Repeat("x,", 50), ",")...)))
	bind := func(tr *v1.TaskRun) { tr.Spec.Workspaces = []v1.WorkspaceBinding{{Name: "w"}} }
	w := newTestCluster(t)
	tr := w.ran(localRun(giving(given...), bind), large)
	has(t, w.one(tr), large, "")

	tasks := make([]v1.PipelineTask, 50)
	for i := range tasks {
		tasks[i] = v1.PipelineTask{Name: fmt.Sprintf("task-%d", i), Params: v1.Params{
			param("a", text("$(params.p1) $(params.p2)")), param("b", array("$(params.p3)", "$(params.list[*])")),
		}}
	}
	p := pipeline("p", tasks...)
	w.objects.put(p)
	has(t, w.CollectPipelineRun(t.Context(), recorded(t, p, given), nil)[0], p, "")
}

// A report reads a bounded number of bytes, and has a bounded number of dependencies.
func TestTaskRun_BoundsTheReport(t *testing.T) {
	w := newTestCluster(t)
	objects := w.objectsOnce()
	const runs = 2*maxDependencies + 1
	items := make([]Dependency, 0, runs)
	for i := range runs {
		name := fmt.Sprintf("build-%d", i)
		build := task(name, "")
		if i < 12 {
			build.Spec.Steps[0].Script = strings.Repeat("x", 1<<20)
		}
		tr := taskRun(name, func(tr *v1.TaskRun) { tr.Spec.TaskRef = &v1.TaskRef{Name: name} })
		tr.Status.TaskSpec = build.Spec.DeepCopy()
		w.objects.put(build)
		items = append(items, w.taskRun(t.Context(), objects, tr, PipelineTask)...)
	}
	if len(items) != runs {
		t.Fatalf("got %d dependencies, want one for each run", len(items))
	}
	has(t, items[0], w.objects[objectKey{resource.Task, namespace, "build-0"}], "")
	lacks(t, items[11], policy.ContentUnavailable, "expected at most")
	lacks(t, items[runs-1], policy.ContentUnavailable, "more than")
}
