// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelinev1beta1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// localRun returns a TaskRun of the Task "build" in the cluster.
func localRun(modifiers ...func(*v1.TaskRun)) *v1.TaskRun {
	return taskRun("run", append([]func(*v1.TaskRun){func(tr *v1.TaskRun) { tr.Spec.TaskRef = &v1.TaskRef{Name: "build"} }}, modifiers...)...)
}

func giving(params ...v1.Param) func(*v1.TaskRun) {
	return func(tr *v1.TaskRun) { tr.Spec.Params = params }
}

func declaring(params ...v1.ParamSpec) func(*v1.Task) {
	return func(t *v1.Task) { t.Spec.Params = params }
}

func referring(refs ...v1.Step) func(*v1.Task) {
	return func(t *v1.Task) { t.Spec.Steps = refs }
}

func spec(name string, defaults *v1.ParamValue, modifiers ...func(*v1.ParamSpec)) v1.ParamSpec {
	p := v1.ParamSpec{Name: name, Default: defaults, Type: v1.ParamTypeString}
	if defaults != nil {
		p.Type = defaults.Type
	}
	for _, modify := range modifiers {
		modify(&p)
	}
	return p
}

func ofType(paramType v1.ParamType) func(*v1.ParamSpec) {
	return func(p *v1.ParamSpec) { p.Type = paramType }
}

// ran puts the Task into the cluster, and returns the TaskRun as Tekton records it.
func (w *testCluster) ran(tr *v1.TaskRun, task *v1.Task) *v1.TaskRun {
	w.t.Helper()
	w.objects.put(task)
	if err := w.recordTaskRun(w.t.Context(), tr, task); err != nil {
		w.t.Fatal(err)
	}
	return stored(tr)
}

func TestCollectTaskRun_ProvesLocalTaskAfterEachSubstitution(t *testing.T) {
	object := v1.NewObject(map[string]string{"host": "localhost", "port": "80"})
	properties := func(p *v1.ParamSpec) {
		p.Properties = map[string]v1.PropertySpec{"host": {Type: v1.ParamTypeString}, "port": {Type: v1.ParamTypeString}}
	}
	args := func(args ...string) func(*v1.Task) { return func(t *v1.Task) { t.Spec.Steps[0].Args = args } }
	for name, tc := range map[string]struct {
		task *v1.Task
		run  func(*v1.TaskRun)
	}{
		"no substitution":            {task("build", "make"), func(*v1.TaskRun) {}},
		"a parameter":                {task("build", "make $(params.x)", declaring(spec("x", nil))), giving(param("x", text("all")))},
		"all notations":              {task("build", `$(params.x) $(params["x"]) $(params['x'])`, declaring(spec("x", nil))), giving(param("x", text("all")))},
		"a default":                  {task("build", "make $(params.x)", declaring(spec("x", text("all")))), func(*v1.TaskRun) {}},
		"a default that is not used": {task("build", "make $(params.x)", declaring(spec("x", text("all")))), giving(param("x", text("some")))},
		"a default that refers to another": {task("build", "make $(params.y)", declaring(spec("x", nil), spec("y", text("$(params.x)/y")))),
			giving(param("x", text("all")))},
		"an array": {task("build", "make $(params.x[1])", declaring(spec("x", nil, ofType(v1.ParamTypeArray))), args("a", "$(params.x[*])", "b")),
			giving(param("x", array("one", "two", "three")))},
		"an empty array": {task("build", "make", declaring(spec("x", nil, ofType(v1.ParamTypeArray))), args("a", "$(params.x[*])")),
			giving(param("x", array()))},
		"an object":                         {task("build", "$(params.x.host):$(params.x.port)", declaring(spec("x", nil, ofType(v1.ParamTypeObject), properties))), giving(param("x", object))},
		"an object with one property given": {task("build", "$(params.x.host):$(params.x.port)", declaring(spec("x", object, properties))), giving(param("x", v1.NewObject(map[string]string{"host": "other"})))},
		"a value with a reference in it":    {task("build", "make $(params.x)", declaring(spec("x", nil), spec("y", nil))), giving(param("x", text("$(params.y)")), param("y", text("z")))},
		"contexts":                          {task("build", "$(context.taskRun.name) $(context.taskRun.namespace) $(context.taskRun.uid) $(context.task.name) $(context.task.retry-count)"), func(*v1.TaskRun) {}},
		"paths of results and steps":        {task("build", "$(results.r.path) $(steps.step.exitCode.path)", func(t *v1.Task) { t.Spec.Results = []v1.TaskResult{{Name: "r"}} }), func(*v1.TaskRun) {}},
		"a workspace": {task("build", "$(workspaces.w.path) $(workspaces.w.bound) $(workspaces.w.claim) $(workspaces.w.volume)",
			func(t *v1.Task) { t.Spec.Workspaces = []v1.WorkspaceDeclaration{{Name: "w"}} }),
			func(tr *v1.TaskRun) { tr.Spec.Workspaces = []v1.WorkspaceBinding{binding("w")} }},
		"a workspace that is not bound": {task("build", "$(workspaces.w.path) $(workspaces.w.bound)",
			func(t *v1.Task) { t.Spec.Workspaces = []v1.WorkspaceDeclaration{{Name: "w", Optional: true}} }), func(*v1.TaskRun) {}},
		"retries": {task("build", "$(context.task.retry-count)"), func(*v1.TaskRun) {}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestCluster(t)
			tr := w.ran(localRun(tc.run), sign(tc.task, "own"))
			if name == "retries" {
				tr.Status.RetriesStatus = []v1.TaskRunStatus{{}, {}}
			}
			got := w.one(tr)
			has(t, got, tc.task, "own")
			if want := clusterSource(t, tc.task); got.Source.URI != want.URI || got.Source.Digest[sha256Digest] != want.Digest[sha256Digest] || got.Resolved {
				t.Errorf("got %+v", got)
			}
			another := tc.task.DeepCopy()
			another.Spec.Steps[0].Script += " evil"
			w.objects.put(another)
			lacks(t, w.one(tr), policy.ContentUnavailable, "not what ran")
		})
	}
}

func TestCollectTaskRun_RejectsLocalTaskThatChanged(t *testing.T) {
	build := func(modifiers ...func(*v1.Task)) *v1.Task {
		return sign(task("build", "make $(params.x)", append(modifiers, declaring(spec("x", text("all"))))...), "own")
	}
	for name, change := range map[string]func(*testCluster){
		"deleted": func(w *testCluster) { w.objects.remove(build()) },
		"script":  func(w *testCluster) { w.objects.put(build(func(t *v1.Task) { t.Spec.Steps[0].Script = "evil" })) },
		"image":   func(w *testCluster) { w.objects.put(build(func(t *v1.Task) { t.Spec.Steps[0].Image = "evil" })) },
		"another step": func(w *testCluster) {
			w.objects.put(build(func(t *v1.Task) { t.Spec.Steps = append(t.Spec.Steps, v1.Step{Image: "evil"}) }))
		},
		"a sidecar": func(w *testCluster) {
			w.objects.put(build(func(t *v1.Task) { t.Spec.Sidecars = []v1.Sidecar{{Image: "evil"}} }))
		},
		"a description": func(w *testCluster) { w.objects.put(build(func(t *v1.Task) { t.Spec.Description = "another" })) },
		"a default": func(w *testCluster) {
			w.objects.put(task("build", "make $(params.x)", declaring(spec("x", text("evil")))))
		},
		"environment": func(w *testCluster) {
			w.objects.put(build(func(t *v1.Task) { t.Spec.Steps[0].Env = []corev1.EnvVar{{Name: "EVIL"}} }))
		},
		"a workspace": func(w *testCluster) {
			w.objects.put(build(func(t *v1.Task) { t.Spec.Workspaces = []v1.WorkspaceDeclaration{{Name: "w"}} }))
		},
		"a StepAction instead": func(w *testCluster) {
			w.objects.put(task("build", "", referring(v1.Step{Name: "step", Ref: &v1.Ref{Name: "no"}})))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestCluster(t)
			tr := w.ran(localRun(), build())
			has(t, w.one(tr), build(), "own")
			change(w)
			got := w.CollectTaskRun(t.Context(), tr)[0]
			lacks(t, got, policy.ContentUnavailable, "")
			if got.Source.URI != clusterURI(resource.Task, namespace, "build", "") || got.Source.Digest != nil {
				t.Errorf("got source %v, which is not proven", got.Source)
			}
		})
	}
}

func TestCollectTaskRun_RejectsRunWithoutRecordedSpec(t *testing.T) {
	w := newTestCluster(t)
	w.objects.put(task("build", "make"))
	lacks(t, w.one(localRun()), policy.ContentUnavailable, "no spec")
}

// Tekton records the spec before it substitutes.
func TestCollectTaskRun_ProvesTaskOfRunThatFailedBeforeSubstitution(t *testing.T) {
	w, build := newTestCluster(t), task("build", "make $(params.x)", declaring(spec("x", nil)))
	w.objects.put(build)
	tr := localRun()
	tr.Status.TaskSpec = &build.Spec
	has(t, w.one(stored(tr)), build, "")
}

// stepActionRun holds a Task with StepActions and the cluster for its run.
type stepActionRun struct {
	*testCluster
	build         *v1.Task
	compile, lint *pipelinev1beta1.StepAction
}

var lintSource = v1.RefSource{URI: gitSource.URI, Digest: gitSource.Digest, EntryPoint: "lint.yaml"}

func newStepActionRun(t *testing.T) *stepActionRun {
	t.Helper()
	byName := v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}}
	byResolver := v1.Step{Name: "b", Ref: &v1.Ref{ResolverRef: resolverRef("git", param("path", text("$(params.dir)/lint.yaml")))}}
	s := &stepActionRun{
		testCluster: newTestCluster(t),
		build:       task("build", "", referring(byName, byResolver, byName), declaring(spec("dir", nil))),
		compile:     sign(stepAction("compile", "cc"), "of compile"),
		lint:        sign(stepAction("lint", "lint"), "of lint"),
	}
	s.objects.put(s.compile)
	return s
}

// runs answers the ResolutionRequests of the TaskRun, and returns the TaskRun as
// Tekton records it.
func (s *stepActionRun) runs(tr *v1.TaskRun) *v1.TaskRun {
	s.t.Helper()
	tr.Spec.Params = v1.Params{param("dir", text("steps"))}
	s.resolve(tr, stepActionRequestName(s.t.Context(), tr, s.build.Spec, &s.build.Spec.Steps[1]), s.lint, lintSource)
	if ref := tr.Spec.TaskRef; ref != nil && ref.Resolver != "" {
		s.answered(tr, s.build)
	}
	return s.ran(tr, s.build)
}

func TestCollectTaskRun_ProvesStepActions(t *testing.T) {
	for name, run := range map[string]func(*stepActionRun) *v1.TaskRun{
		"of a local Task":    func(*stepActionRun) *v1.TaskRun { return localRun() },
		"of a resolved Task": func(*stepActionRun) *v1.TaskRun { return resolvedRun("git", gitSource) },
		"of an inline spec": func(s *stepActionRun) *v1.TaskRun {
			return taskRun("run", func(tr *v1.TaskRun) { tr.Spec.TaskSpec = &s.build.Spec })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStepActionRun(t)
			tr := s.runs(run(s))
			items := s.CollectTaskRun(t.Context(), tr)
			if len(items) != 3 {
				t.Fatalf("got %d items, want the Task and each StepAction once", len(items))
			}
			has(t, items[1], s.compile, "of compile")
			has(t, items[2], s.lint, "of lint")
			if items[1].Role != StepAction || items[1].Resolved || !items[2].Resolved || items[2].Source.EntryPoint != "lint.yaml" {
				t.Errorf("got %+v", items[1:])
			}
			s.objects.put(sign(stepAction("compile", "evil"), "of compile"))
			for _, item := range s.CollectTaskRun(t.Context(), tr)[1:] {
				lacks(t, item, policy.ContentUnavailable, "not what ran")
			}
		})
	}
}

func TestCollectTaskRun_ProvesStepActionWithParameters(t *testing.T) {
	w, compile := newTestCluster(t), stepAction("compile", "cc $(params.flag) $(params.opt)")
	compile.Spec.Params = v1.ParamSpecs{spec("flag", nil), spec("opt", text("-O2"))}
	w.objects.put(compile)
	step := v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}, Params: v1.Params{param("flag", text("$(params.dir)"))}}
	tr := w.ran(localRun(giving(param("dir", text("steps")))), task("build", "", referring(step), declaring(spec("dir", nil))))
	has(t, w.CollectTaskRun(t.Context(), tr)[1], compile, "")
}

func TestCollectTaskRun_ProvesInlineSpecWithUndeclaredWorkspace(t *testing.T) {
	w, compile := newTestCluster(t), stepAction("compile", "cc")
	w.objects.put(compile)
	tr := taskRun("run", func(tr *v1.TaskRun) {
		tr.Spec.TaskSpec = &v1.TaskSpec{Steps: []v1.Step{{Name: "a", Ref: &v1.Ref{Name: "compile"}}, {Script: "$(workspaces.w.path)"}}}
		tr.Spec.Workspaces = []v1.WorkspaceBinding{binding("w")}
	})
	tr = w.ran(tr, &v1.Task{ObjectMeta: tr.ObjectMeta, Spec: *tr.Spec.TaskSpec})
	has(t, w.CollectTaskRun(t.Context(), tr)[1], compile, "")
}

func TestCollectTaskRun_ReportsMissingStepActions(t *testing.T) {
	s := newStepActionRun(t)
	tr := s.runs(localRun())
	s.objects.remove(s.compile)
	clear(s.requests)
	items := s.CollectTaskRun(t.Context(), tr)
	lacks(t, items[0], policy.ContentUnavailable, "compile")
	lacks(t, items[1], policy.ContentUnavailable, "not in the cluster")
	lacks(t, items[2], policy.ContentUnavailable, errNotFound.Error())
}

// After Tekton waited for a StepAction, it uses the name of the run as the name of a
// resolved Task (GetTaskData in pkg/reconciler/taskrun/resources).
func TestCollectTaskRun_ReplaysResolvedTaskUnderBothNames(t *testing.T) {
	for _, called := range []string{"build", "run", "evil"} {
		w, tr := newTestCluster(t), resolvedRun("git", gitSource)
		build := task("build", "", referring(v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}}))
		compile := stepAction("compile", "cc $(context.task.name)")
		w.objects.put(compile)
		w.answered(tr, build)
		tr = w.ran(tr, task(called, "", referring(build.Spec.Steps...)))
		if got := w.CollectTaskRun(t.Context(), tr)[1]; (got.Content != nil) != (called != "evil") {
			t.Errorf("%s: got %+v", called, got)
		}
	}
}
