// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	pipelinev1beta1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	"github.com/tektoncd/pipeline/pkg/workspace"
	"k8s.io/apimachinery/pkg/selection"
)

// sizeNow returns the size of a value without a substitution.
func sizeNow(value any) int {
	size, _ := newBudget().measure(newSizes(), value) // no reference is known
	return size
}

// substitutions of a TaskRun in the order of substitute.
func substitutionsOf(t *testing.T, tr *v1.TaskRun) []func(*v1.TaskSpec) *v1.TaskSpec {
	t.Helper()
	volumes := workspace.CreateVolumes(tr.Spec.Workspaces)
	return []func(*v1.TaskSpec) *v1.TaskSpec{
		func(s *v1.TaskSpec) *v1.TaskSpec {
			return taskresources.ApplyParameters(s, tr, slices.Clone(s.Params)...)
		},
		func(s *v1.TaskSpec) *v1.TaskSpec { return taskresources.ApplyContexts(s, "build", tr) },
		taskresources.ApplyResults,
		taskresources.ApplyArtifacts,
		taskresources.ApplyStepExitCodePath,
		func(s *v1.TaskSpec) *v1.TaskSpec {
			return taskresources.ApplyWorkspaces(t.Context(), s, s.Workspaces, tr.Spec.Workspaces, volumes)
		},
	}
}

// FuzzSizes checks that no substitution makes more than the bound that was computed
// before.
func FuzzSizes(f *testing.F) {
	everything := task("build", `$(params.a) $(params["a"]) $(params.l[0]) $(params.o.k) $(inputs.params.a) $(context.task.name) $(results.r.path)`,
		declaring(spec("a", text("$(params.b)$(params.b)")), spec("b", text("<&>\x01")), spec("l", array("x", "$(params.a)")), spec("o", nil)),
		func(t *v1.Task) {
			t.Spec.Results = []v1.TaskResult{{Name: "r"}}
			t.Spec.Workspaces = []v1.WorkspaceDeclaration{{Name: "w", MountPath: "/$(params.b)"}, {Name: "v"}}
			s := &t.Spec.Steps[0]
			s.Args = []string{"$(params.l[*])", "$(params.l)", "$(workspaces.w.path)$(workspaces.$(workspaces.w.path).path)", "$(steps.step-step.exitCode.path)"}
			s.When = v1.WhenExpressions{{Input: "$(params.l[*])", Operator: selection.In, Values: []string{"$(params.l[*])"}}}
			s.Results = []v1.StepResult{{Name: "r"}}
			s.Workspaces = []v1.WorkspaceUsage{{Name: "w", MountPath: "/w"}}
			s.Env = append(s.Env, t.Spec.Steps[0].Env...)
			t.Spec.Steps = append(t.Spec.Steps, v1.Step{Image: "$(artifacts.path)", Script: "$(step.results.r.path)$(step.artifacts.path)", Params: v1.Params{param("p", text("$(params.l[*])")), param("o", text("$(params.o[*])"))}})
		})
	given := v1.Params{param("o", v1.NewObject(map[string]string{"k": "$(params.l[*])"})), param("given", text("$(params.b"))}
	f.Add(must(json.Marshal(everything.Spec)), must(json.Marshal(given)))
	f.Add(must(json.Marshal(task("build", "$$(params.a)$(params.$(params.a))").Spec)), must(json.Marshal(v1.Params{param("a", text("(params.a)"))})))
	f.Fuzz(func(t *testing.T, ofTask, ofParams []byte) {
		written, tr := &v1.TaskSpec{}, taskRun("run")
		if json.Unmarshal(ofTask, written) != nil || json.Unmarshal(ofParams, &tr.Spec.Params) != nil {
			return
		}
		defer func() { _ = recover() }() // Tekton's functions may panic on a spec that it does not accept
		written.SetDefaults(t.Context())
		tr.Spec.Workspaces = []v1.WorkspaceBinding{{Name: "w"}}
		for range maxRounds {
			if written = staysBelowBounds(t, written, tr); written == nil {
				return
			}
		}
	})
}

// staysBelowBounds returns the spec after one round of substitutions, each of which
// is compared with its bound, or nil if a replay would not make one of them.
func staysBelowBounds(t *testing.T, written *v1.TaskSpec, tr *v1.TaskRun) *v1.TaskSpec {
	t.Helper()
	params := paramSizes(written.Params, tr.Spec.Params)
	for i, apply := range substitutionsOf(t, tr) {
		if i >= 2 && checkPaths(written) != nil {
			return nil
		}
		bound, err := newBudget().measure(params.withOthers(written, "build", tr), written)
		if err != nil || bound > maxSubstitution {
			return nil
		}
		next := apply(written)
		if got := sizeNow(next); got > bound {
			t.Fatalf("substitution %d made %d bytes, the bound was %d\nof %s\ngot %s", i, got, bound, must(json.Marshal(written)), must(json.Marshal(next)))
		}
		written = next
	}
	return written
}

// FuzzStepActionSizes checks the same for the content of a StepAction.
func FuzzStepActionSizes(f *testing.F) {
	action := stepAction("compile", "$(params.a)$(params.all)")
	action.Spec.Params = v1.ParamSpecs{
		spec("a", nil), spec("b", text("bb")), spec("all", text("$(params.a)$(params.b)$(params.b)")), spec("l", nil, ofType(v1.ParamTypeArray)),
	}
	action.Spec.Args = []string{"$(params.l[*])", "$(params.l[0])"}
	f.Add(must(json.Marshal(action.Spec)), must(json.Marshal(v1.Params{param("a", text("$(steps.x.results.r)")), param("l", text("$(steps.x.results.r)"))})))
	f.Add(must(json.Marshal(action.Spec)), must(json.Marshal(v1.Params{param("a", text("$(params.run)$(context.taskRun.name)")), param("l", array("x", "y"))})))
	f.Fuzz(func(t *testing.T, ofAction, ofParams []byte) {
		w, tr, action := newTestCluster(t), localRun(giving(param("run", text("value")))), stepAction("compile", "")
		step := v1.Step{Name: "a", Ref: &v1.Ref{Name: "compile"}}
		if json.Unmarshal(ofAction, &action.Spec) != nil || json.Unmarshal(ofParams, &step.Params) != nil {
			return
		}
		action.SetDefaults(t.Context())
		w.objects.put(action)
		build := task("build", "", referring(step))
		run := w.collection(w.objectsOnce(), tr, tr.UID)
		bound, err := run.sizeOf(action, tr, &build.Spec, &step, paramSizes(nil, tr.Spec.Params))
		if err != nil || bound > maxSubstitution {
			return
		}
		filled, err := run.withStepActions(t.Context(), tr, build)
		if err != nil {
			return
		}
		got := pipelinev1beta1.StepActionSpec{}
		made := filled.Steps[0]
		got.Image, got.Command, got.Args, got.Env, got.Script, got.WorkingDir = made.Image, made.Command, made.Args, made.Env, made.Script, made.WorkingDir
		got.VolumeMounts, got.Results, got.SecurityContext = made.VolumeMounts, made.Results, made.SecurityContext
		if size := sizeNow(got); size > bound {
			t.Fatalf("the StepAction became %d bytes, the bound was %d\nof %s with %s\ngot %s", size, bound, ofAction, ofParams, must(json.Marshal(got)))
		}
	})
}

func TestEncodedSize_IsAtLeastThatOfJSON(t *testing.T) {
	for _, plain := range []string{"", "a", "\n\t\r\b\f\x00\x1f", `"\`, "<>&", "é", "\u2028\u2029", "\xff\xfe", "a\xffé", "\x7f"} {
		if got, want := encodedSize(plain), len(must(json.Marshal(plain)))-2; got < want {
			t.Errorf("%q: got %d, JSON has %d", plain, got, want)
		}
	}
}

func TestReferences_FindsNames(t *testing.T) {
	for plain, want := range map[string]string{
		"":                       "",
		"$(a)":                   "a",
		"x $(a) $(b.c) $x (y)":   "a|b.c",
		"$(cat $(a)/x)":          "|a",
		"$(a $(b":                "|",
		"$(a":                    "",
		"$$(a)":                  "a",
		`$(params["a"]) $(l[*])`: `params["a"]|l[*]`,
		"$(a)$(b)$(":             "a|b",
		"$()":                    "",
	} {
		if got := strings.Join(slices.Collect(references(plain)), "|"); strings.TrimSuffix(got, "|") != strings.TrimSuffix(want, "|") {
			t.Errorf("%q: got %q, want %q", plain, got, want)
		}
	}
}
