// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelineresources "github.com/tektoncd/pipeline/pkg/reconciler/pipelinerun/resources"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/kmeta"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

func named(name string) func(*v1.TaskRun) { return func(tr *v1.TaskRun) { tr.Name = name } }

func controlledBy(pr *v1.PipelineRun) func(*v1.TaskRun) {
	return func(tr *v1.TaskRun) { tr.OwnerReferences = append(tr.OwnerReferences, *kmeta.NewControllerRef(pr)) }
}

func object(properties map[string]string) *v1.ParamValue { return v1.NewObject(properties) }

func taskResult(name string, value *v1.ParamValue) v1.TaskRunResult {
	return v1.TaskRunResult{Name: name, Type: v1.ResultsType(value.Type), Value: *value}
}

func succeeded(tr *v1.TaskRun) {
	tr.Status.SetCondition(&apis.Condition{Type: apis.ConditionSucceeded, Status: corev1.ConditionTrue, Reason: "Succeeded"})
}

// first returns the TaskRun of a task named first, whose results other tasks use.
func first(pr *v1.PipelineRun) *v1.TaskRun {
	return taskRun("run-first", controlledBy(pr), succeeded, func(tr *v1.TaskRun) {
		tr.Status.Results = []v1.TaskRunResult{
			taskResult("word", text("w")), taskResult("list", array("x", "y")), taskResult("server", object(map[string]string{"host": "h"})),
		}
	})
}

// asking are tasks of a Pipeline that refer to values which are known only while the
// PipelineRun is in progress.
var asking = map[string]v1.PipelineTask{
	"a name":      {TaskRef: &v1.TaskRef{Name: "build"}},
	"a reference": {TaskRef: &v1.TaskRef{ResolverRef: resolverRef("git", param("path", text("a.yaml")))}},
	"results in parameters": {TaskRef: &v1.TaskRef{Name: "build"}, Params: v1.Params{
		param("text", text("$(tasks.first.results.word)-$(tasks.first.results.list[1])-$(tasks.first.results.server.host)")),
		param("brackets", text(`$(tasks.first.results['word'])$(tasks.first.results["word"])$(tasks.first.results["server"][host])`)),
		param("list", array("$(tasks.first.results.list[*])")), param("whole", text("$(tasks.first.results.list[*])")),
		param("object", text("$(tasks.first.results.server[*])")), param("retries", text("$(context.pipelineTask.retries)")),
	}, Retries: 2},
	"results in a reference": {TaskRef: &v1.TaskRef{ResolverRef: resolverRef("git", param("path", text("$(tasks.first.results.word).yaml")))},
		Params: v1.Params{param("p", text("$(tasks.first.results.word)"))}}, // Tekton fills in only results that a parameter refers to
	"results in a spec": {TaskSpec: embedded("$(tasks.first.results.word) $(tasks.first.results.server.host)", func(s *v1.TaskSpec) {
		s.Steps[0].Args = []string{"$(tasks.first.results.list[*])"}
	})},
	"results in a matrix": {TaskRef: &v1.TaskRef{Name: "build"}, Matrix: &v1.Matrix{
		Params:  v1.Params{param("p", array("$(tasks.first.results.list[*])")), param("q", array("$(tasks.first.results.word)", "z"))},
		Include: v1.IncludeParamsList{{Name: "more", Params: v1.Params{param("q", text("z")), param("r", text("$(tasks.first.results.word)"))}}},
	}},
}

// taskRunsFor returns the TaskRuns that Tekton creates for a task, in the steps of
// runNextSchedulableTask and createTaskRun in pkg/reconciler/pipelinerun.
func taskRunsFor(t *testing.T, pr *v1.PipelineRun, task v1.PipelineTask) []*v1.TaskRun {
	t.Helper()
	of := &pipelineresources.ResolvedPipelineTask{PipelineTask: &v1.PipelineTask{Name: "first"}, TaskRuns: []*v1.TaskRun{first(pr)}}
	next := &pipelineresources.ResolvedPipelineTask{PipelineTask: task.DeepCopy()}
	if task.TaskSpec != nil {
		next.ResolvedTask = &taskresources.ResolvedTask{TaskSpec: task.TaskSpec.TaskSpec.DeepCopy()}
	}
	state := pipelineresources.PipelineRunState{of, next}
	refs, _, err := pipelineresources.ResolveResultRefs(state, pipelineresources.PipelineRunState{next})
	if err != nil {
		t.Fatal(err)
	}
	pipelineresources.ApplyTaskResults(pipelineresources.PipelineRunState{next}, refs)
	pipelineresources.PropagateResults(next, state)
	applied := pipelineresources.ApplyPipelineTaskContexts(next.PipelineTask, pr.Status, &pipelineresources.PipelineRunFacts{State: state})
	fan := []v1.Params{nil}
	if applied.IsMatrixed() {
		fan = applied.Matrix.FanOut()
	}
	taskRuns := make([]*v1.TaskRun, 0, len(fan))
	for i, combination := range fan {
		taskRuns = append(taskRuns, taskRun("run-next-"+string(rune('a'+i)), controlledBy(pr), succeeded, func(tr *v1.TaskRun) {
			tr.Spec.TaskRef, tr.Spec.Params = applied.TaskRef, slices.Concat(combination, applied.Params)
			if next.ResolvedTask != nil {
				tr.Spec.TaskSpec = next.ResolvedTask.TaskSpec
			}
			tr.Spec.SetDefaults(t.Context())
		}))
	}
	return taskRuns
}

// runWith returns a PipelineRun with these tasks, after the given TaskRuns of the
// task next.
func runWith(pipelineRun *v1.PipelineRun, task v1.PipelineTask, taskRuns []*v1.TaskRun) *v1.PipelineRun {
	pr := pipelineRun.DeepCopy()
	task.Name = "next"
	pr.Status.PipelineSpec = &v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "first", TaskRef: &v1.TaskRef{Name: "build"}}, task}}
	pr.Status.ChildReferences = []v1.ChildStatusReference{{Name: "run-first", PipelineTaskName: "first"}}
	for _, tr := range taskRuns {
		pr.Status.ChildReferences = append(pr.Status.ChildReferences, v1.ChildStatusReference{Name: tr.Name, PipelineTaskName: "next"})
	}
	return pr
}

// checked returns the first error about the TaskRuns.
func checked(t *testing.T, w *testCluster, pr *v1.PipelineRun, taskRuns []*v1.TaskRun) error {
	t.Helper()
	children := newChildren(pr, append(slices.Clone(taskRuns), first(pr)), w)
	for _, tr := range taskRuns {
		if err := children.check(t.Context(), tr); err != nil {
			return err
		}
	}
	for _, missing := range children.incomplete() {
		return missing.Unavailable
	}
	return nil
}

func TestChildren_AcceptsWhatTektonCreates(t *testing.T) {
	for name, task := range asking {
		pr := runWith(pipelineRun(), task, nil)
		taskRuns := taskRunsFor(t, pr, task)
		pr = runWith(pr, task, taskRuns)
		pr.Status.SetCondition(&apis.Condition{Type: apis.ConditionSucceeded, Status: corev1.ConditionTrue})
		if err := checked(t, newTestCluster(t), pr, taskRuns); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChildren_AcceptsReferenceThatAdmissionRewrote(t *testing.T) {
	task := v1.PipelineTask{TaskRef: &v1.TaskRef{Name: "build"}}
	rewritten := func(namespace, name string) []*v1.TaskRun {
		return []*v1.TaskRun{taskRun("run-next", controlledBy(pipelineRun()), func(tr *v1.TaskRun) {
			tr.Spec.TaskRef = &v1.TaskRef{Kind: v1.NamespacedTaskKind, ResolverRef: resolverRef("cluster",
				param("kind", text("task")), param("name", text(name)), param("namespace", text(namespace)))}
		})}
	}
	for name, tc := range map[string]struct {
		taskRuns []*v1.TaskRun
		counts   bool
	}{
		"same Task":         {rewritten("ns", "build"), true},
		"another Task":      {rewritten("ns", "other"), false},
		"another namespace": {rewritten("other", "build"), false},
	} {
		if err := checked(t, newTestCluster(t), runWith(pipelineRun(), task, tc.taskRuns), tc.taskRuns); (err == nil) != tc.counts {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChildren_RejectsWhatTheTaskDidNotAskFor(t *testing.T) {
	plain := v1.PipelineTask{TaskRef: &v1.TaskRef{Name: "build"}, Params: v1.Params{param("p", text("v"))}}
	matrix := v1.PipelineTask{TaskRef: &v1.TaskRef{Name: "build"}, Matrix: &v1.Matrix{Params: v1.Params{param("p", array("a", "b"))}}}
	inline := v1.PipelineTask{TaskSpec: embedded("make")}
	for name, tc := range map[string]struct {
		task   v1.PipelineTask
		change func(*[]*v1.TaskRun)
		reason policy.Reason
	}{
		"no controller":       {plain, func(all *[]*v1.TaskRun) { (*all)[0].OwnerReferences = nil }, policy.ReferenceMismatch},
		"another PipelineRun": {plain, func(all *[]*v1.TaskRun) { (*all)[0].OwnerReferences[0].UID = "other" }, policy.ReferenceMismatch},
		"another name":        {plain, func(all *[]*v1.TaskRun) { (*all)[0].Spec.TaskRef.Name = "other" }, policy.ReferenceMismatch},
		"a resolver":          {plain, func(all *[]*v1.TaskRun) { (*all)[0].Spec.TaskRef.Resolver = "git" }, policy.ReferenceMismatch},
		"no reference, a spec": {plain, func(all *[]*v1.TaskRun) {
			(*all)[0].Spec.TaskRef, (*all)[0].Spec.TaskSpec = nil, &embedded("x").TaskSpec
		}, policy.ReferenceMismatch},
		"another value":                {plain, func(all *[]*v1.TaskRun) { (*all)[0].Spec.Params[0].Value = *text("other") }, policy.ReferenceMismatch},
		"one parameter more":           {plain, func(all *[]*v1.TaskRun) { (*all)[0].Spec.Params = append((*all)[0].Spec.Params, param("q", text("x"))) }, policy.ReferenceMismatch},
		"no parameter":                 {plain, func(all *[]*v1.TaskRun) { (*all)[0].Spec.Params = nil }, policy.ReferenceMismatch},
		"two TaskRuns for one task":    {plain, func(all *[]*v1.TaskRun) { *all = append(*all, (*all)[0]) }, policy.ReferenceMismatch},
		"another spec":                 {inline, func(all *[]*v1.TaskRun) { (*all)[0].Spec.TaskSpec.Steps[0].Script = "evil" }, policy.ReferenceMismatch},
		"another element":              {matrix, func(all *[]*v1.TaskRun) { (*all)[1].Spec.Params[0].Value = *text("c") }, policy.ReferenceMismatch},
		"one combination twice":        {matrix, func(all *[]*v1.TaskRun) { (*all)[1].Spec.Params = (*all)[0].Spec.Params }, policy.ReferenceMismatch},
		"one combination is missing":   {matrix, func(all *[]*v1.TaskRun) { *all = (*all)[:1] }, policy.ReferenceMismatch},
		"another result than recorded": {asking["results in a reference"], func(all *[]*v1.TaskRun) { (*all)[0].Spec.TaskRef.Params[0].Value = *text("x.yaml") }, policy.ContentUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			pr := runWith(pipelineRun(), tc.task, nil)
			taskRuns := taskRunsFor(t, pr, tc.task)
			pr = runWith(pr, tc.task, taskRuns)
			pr.Status.SetCondition(&apis.Condition{Type: apis.ConditionSucceeded, Status: corev1.ConditionTrue})
			tc.change(&taskRuns)
			rejects(t, checked(t, newTestCluster(t), pr, taskRuns), tc.reason)
		})
	}
}

func rejects(t *testing.T, err error, reason policy.Reason) {
	t.Helper()
	if got := unavailable(finding{}, err); err == nil || got.Unavailable.Reason != reason {
		t.Errorf("got %v, want %s", err, reason)
	}
}

func TestChildren_RejectsTaskRunsThatDoNotBelong(t *testing.T) {
	task := v1.PipelineTask{TaskRef: &v1.TaskRef{Name: "build"}}
	pr := runWith(pipelineRun(), task, nil)
	taskRuns := taskRunsFor(t, pr, task)
	pr = runWith(pr, task, taskRuns)

	w := newTestCluster(t)
	w.replaced = map[string]bool{taskRuns[0].Name: true}
	rejects(t, checked(t, w, pr, taskRuns), policy.ContentUnavailable)

	unknown := pr.DeepCopy()
	unknown.Status.ChildReferences[1].PipelineTaskName = "absent"
	rejects(t, checked(t, newTestCluster(t), unknown, taskRuns), policy.ReferenceMismatch)

	unrecorded := pr.DeepCopy()
	unrecorded.Status.PipelineSpec = nil
	rejects(t, checked(t, newTestCluster(t), unrecorded, taskRuns), policy.ContentUnavailable)
}

// The fan-out of a matrix grows with the product of its lists.
func TestChildren_BoundsCombinations(t *testing.T) {
	task := v1.PipelineTask{TaskRef: &v1.TaskRef{Name: "build"}, Matrix: &v1.Matrix{}}
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		task.Matrix.Params = append(task.Matrix.Params, param(name, array(slices.Repeat([]string{"x"}, 1000)...)))
	}
	taskRuns := []*v1.TaskRun{taskRun("run-next", controlledBy(pipelineRun()), func(tr *v1.TaskRun) { tr.Spec.TaskRef = task.TaskRef })}
	rejects(t, checked(t, newTestCluster(t), runWith(pipelineRun(), task, taskRuns), taskRuns), policy.ContentUnavailable)
}

// Results are filled in for each reference: a few kB of them take megabytes.
func TestChildren_BoundsResults(t *testing.T) {
	pr := pipelineRun()
	for name, task := range map[string]v1.PipelineTask{
		"in a parameter": {TaskRef: &v1.TaskRef{Name: "build"}, Params: v1.Params{param("p", text(repeated("$(tasks.first.results.r)", 5000)))}},
		"in a spec":      {TaskSpec: embedded(repeated("$(tasks.first.results.r)", 5000)), Params: v1.Params{param("p", text("x"))}},
	} {
		before := first(pr)
		before.Status.Results = []v1.TaskRunResult{taskResult("r", text(strings.Repeat("x", 4000)))}
		tr := taskRun("run-next-a", controlledBy(pr), func(tr *v1.TaskRun) { tr.Spec.TaskRef = &v1.TaskRef{Name: "build"} })
		within(t, func() {
			err := newChildren(runWith(pr, task, []*v1.TaskRun{tr}), []*v1.TaskRun{tr, before}, newTestCluster(t)).check(t.Context(), tr)
			if !errors.Is(err, errSubstitution) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}

// The states of other tasks are those that Tekton computes.
func TestRunValues_HasStatesOfTekton(t *testing.T) {
	failed := func(tr *v1.TaskRun) {
		tr.Status.SetCondition(&apis.Condition{Type: apis.ConditionSucceeded, Status: corev1.ConditionFalse, Reason: "Broken"})
	}
	for name, tc := range map[string]struct {
		outcome func(*v1.TaskRun)
		skipped bool
		want    map[string]string
	}{
		"succeeded": {outcome: succeeded, want: map[string]string{
			"tasks.next.status": "Succeeded", "tasks.next.reason": "Succeeded", "tasks.status": "Succeeded"}},
		"failed": {outcome: failed, want: map[string]string{
			"tasks.next.status": "Failed", "tasks.next.reason": "Broken", "tasks.status": "Failed"}},
		"skipped": {skipped: true, want: map[string]string{
			"tasks.next.status": "None", "tasks.next.reason": "", "tasks.status": "Completed"}},
	} {
		var taskRuns []*v1.TaskRun
		if !tc.skipped {
			taskRuns = append(taskRuns, taskRun("run-next", tc.outcome))
		}
		pr := runWith(pipelineRun(), v1.PipelineTask{TaskRef: &v1.TaskRef{Name: "build"}}, taskRuns)
		got := newChildren(pr, append(taskRuns, first(pr)), newTestCluster(t)).values.states
		maps.DeleteFunc(got, func(key, _ string) bool { _, wanted := tc.want[key]; return !wanted })
		if !maps.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
