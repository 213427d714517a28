// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/pod"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const secret = "s3cr3t"

// template is a Pod template with the environment variable that makes each shell run
// a command.
func template() *pod.PodTemplate {
	return &pod.PodTemplate{Env: []corev1.EnvVar{{Name: "BASH_ENV", Value: secret}}, HostNetwork: true}
}

func TestTaskRunOverrides_ListsFieldsOfTheRun(t *testing.T) {
	tekton, another := pipeline.ManagedBy, "example.com/controller"
	for name, tc := range map[string]struct {
		spec v1.TaskRunSpec
		want string
	}{
		"none":        {v1.TaskRunSpec{}, ""},
		"a reference": {v1.TaskRunSpec{TaskRef: &v1.TaskRef{Name: "build"}}, ""},
		"a spec":      {v1.TaskRunSpec{TaskSpec: &v1.TaskSpec{Description: "x"}}, ""},
		"what Tekton fills in": {v1.TaskRunSpec{
			ServiceAccountName: "default", Timeout: &metav1.Duration{Duration: time.Hour}, PodTemplate: &pod.PodTemplate{}, ManagedBy: &tekton,
		}, ""},
		"empty lists":           {v1.TaskRunSpec{Params: v1.Params{}, Workspaces: []v1.WorkspaceBinding{}}, ""},
		"when the run ends":     {v1.TaskRunSpec{Status: v1.TaskRunSpecStatusCancelled, StatusMessage: "x", Retries: 3}, ""},
		"Pod template":          {v1.TaskRunSpec{PodTemplate: template()}, "podTemplate.env podTemplate.hostNetwork"},
		"service account":       {v1.TaskRunSpec{ServiceAccountName: "builder"}, "serviceAccountName"},
		"params and workspaces": {v1.TaskRunSpec{Workspaces: []v1.WorkspaceBinding{{Name: "w"}}, Params: v1.Params{{Name: secret}}}, "params workspaces"},
		"specs of steps and sidecars": {v1.TaskRunSpec{
			StepSpecs: []v1.TaskRunStepSpec{{Name: secret}}, SidecarSpecs: []v1.TaskRunSidecarSpec{{Name: secret}}, ComputeResources: &corev1.ResourceRequirements{},
		}, "computeResources sidecarSpecs stepSpecs"},
		"breakpoints":        {v1.TaskRunSpec{Debug: &v1.TaskRunDebug{}}, "debug"},
		"another controller": {v1.TaskRunSpec{ManagedBy: &another}, "managedBy"},
	} {
		if got := strings.Join(TaskRunOverrides(tc.spec), " "); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

func TestPipelineRunOverrides_ListsFieldsOfTheRun(t *testing.T) {
	for name, tc := range map[string]struct {
		spec v1.PipelineRunSpec
		want string
	}{
		"none": {v1.PipelineRunSpec{}, ""},
		"what Tekton fills in": {v1.PipelineRunSpec{
			PipelineRef: &v1.PipelineRef{Name: "p"}, Timeouts: &v1.TimeoutFields{}, TaskRunTemplate: v1.PipelineTaskRunTemplate{ServiceAccountName: "default"},
		}, ""},
		"a spec": {v1.PipelineRunSpec{PipelineSpec: &v1.PipelineSpec{Description: "x"}}, ""},
		"template": {v1.PipelineRunSpec{TaskRunTemplate: v1.PipelineTaskRunTemplate{PodTemplate: template(), ServiceAccountName: "builder"}},
			"taskRunTemplate.podTemplate.env taskRunTemplate.podTemplate.hostNetwork taskRunTemplate.serviceAccountName"},
		"two tasks": {v1.PipelineRunSpec{TaskRunSpecs: []v1.PipelineTaskRunSpec{
			{PipelineTaskName: secret, PodTemplate: template()},
			{PipelineTaskName: "b", PodTemplate: template(), ServiceAccountName: "default", Metadata: &v1.PipelineTaskMetadata{}},
		}}, "taskRunSpecs[].metadata taskRunSpecs[].podTemplate.env taskRunSpecs[].podTemplate.hostNetwork taskRunSpecs[].serviceAccountName"},
		"a task without a field": {v1.PipelineRunSpec{TaskRunSpecs: []v1.PipelineTaskRunSpec{{PipelineTaskName: "a"}}}, ""},
		"params and workspaces":  {v1.PipelineRunSpec{Workspaces: []v1.WorkspaceBinding{{Name: "w"}}, Params: v1.Params{{Name: "p"}}}, "params workspaces"},
	} {
		if got := strings.Join(PipelineRunOverrides(&v1.PipelineRun{Spec: tc.spec}, nil), " "); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// What Tekton sets in the TaskRuns of a PipelineRun is listed once. What something else
// sets there is listed, too.
func TestPipelineRunOverrides_ListsFieldsOfTaskRunsThatThePipelineRunDoesNotExplain(t *testing.T) {
	ofTask := v1.PipelineTaskRunSpec{
		PipelineTaskName: "build", PodTemplate: template(), StepSpecs: []v1.TaskRunStepSpec{{Name: "s"}},
		SidecarSpecs: []v1.TaskRunSidecarSpec{{Name: "s"}}, ComputeResources: &corev1.ResourceRequirements{},
	}
	pr := &v1.PipelineRun{Spec: v1.PipelineRunSpec{
		TaskRunTemplate: v1.PipelineTaskRunTemplate{ServiceAccountName: "builder"}, TaskRunSpecs: []v1.PipelineTaskRunSpec{ofTask},
	}}
	pr.Status.ChildReferences = []v1.ChildStatusReference{{Name: "pr-build", PipelineTaskName: "build"}, {Name: "pr-test", PipelineTaskName: "test"}}
	own := PipelineRunOverrides(pr, nil)
	made := v1.TaskRunSpec{
		ServiceAccountName: "builder", PodTemplate: template(), StepSpecs: ofTask.StepSpecs, SidecarSpecs: ofTask.SidecarSpecs,
		ComputeResources: ofTask.ComputeResources, Params: v1.Params{{Name: "p"}}, Workspaces: []v1.WorkspaceBinding{{Name: "w"}},
	}
	other := template()
	other.Env[0].Value = "another"
	for name, tc := range map[string]struct {
		taskRun string
		change  func(*v1.TaskRunSpec)
		want    string
	}{
		"as Tekton makes it":     {"pr-build", func(*v1.TaskRunSpec) {}, ""},
		"another value":          {"pr-build", func(s *v1.TaskRunSpec) { s.PodTemplate = other }, "podTemplate.env podTemplate.hostNetwork"},
		"another account":        {"pr-build", func(s *v1.TaskRunSpec) { s.ServiceAccountName = "admin" }, "serviceAccountName"},
		"breakpoints":            {"pr-build", func(s *v1.TaskRunSpec) { s.Debug = &v1.TaskRunDebug{} }, "debug"},
		"the specs of a step":    {"pr-build", func(s *v1.TaskRunSpec) { s.StepSpecs = []v1.TaskRunStepSpec{{Name: "other"}} }, "stepSpecs"},
		"the specs of a sidecar": {"pr-build", func(s *v1.TaskRunSpec) { s.SidecarSpecs = []v1.TaskRunSidecarSpec{{Name: "other"}} }, "sidecarSpecs"},
		"what another task has": {"pr-test", func(*v1.TaskRunSpec) {},
			"computeResources podTemplate.env podTemplate.hostNetwork sidecarSpecs stepSpecs"},
		"not a recorded child": {"other", func(s *v1.TaskRunSpec) { *s = v1.TaskRunSpec{PodTemplate: other} }, "podTemplate.env podTemplate.hostNetwork"},
	} {
		tr := &v1.TaskRun{ObjectMeta: metav1.ObjectMeta{Name: tc.taskRun}, Spec: *made.DeepCopy()}
		tc.change(&tr.Spec)
		want := slices.Clone(own)
		for path := range strings.FieldsSeq(tc.want) {
			want = append(want, "taskRuns[]."+path)
		}
		slices.Sort(want)
		if got := PipelineRunOverrides(pr, []*v1.TaskRun{tr}); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// fill sets every field of a struct, and those of Pod templates and specs of tasks in it.
func fill(value reflect.Value) {
	switch kind := value.Kind(); {
	case kind == reflect.Struct:
		for _, field := range value.Fields() {
			fill(field)
		}
	case kind == reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		if value.Type() == reflect.TypeFor[*pod.PodTemplate]() {
			fill(value.Elem())
		}
	case kind == reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 1, 1))
		if value.Type() == reflect.TypeFor[[]v1.PipelineTaskRunSpec]() {
			fill(value.Index(0))
		}
	case kind == reflect.Map:
		value.Set(reflect.MakeMap(value.Type()))
		value.SetMapIndex(reflect.Zero(value.Type().Key()), reflect.Zero(value.Type().Elem()))
	case kind == reflect.String:
		value.SetString(secret)
	case kind == reflect.Bool:
		value.SetBool(true)
	case value.CanInt():
		value.SetInt(1)
	}
}

// A run that sets every field that Tekton has: the list is bounded, sorted, and
// contains names of Tekton's types only.
func TestOverrides_AreBoundedPaths(t *testing.T) {
	var ofTask v1.TaskRunSpec
	var ofPipeline v1.PipelineRunSpec
	fill(reflect.ValueOf(&ofTask).Elem())
	fill(reflect.ValueOf(&ofPipeline).Elem())
	for kind, paths := range map[string][]string{"TaskRun": TaskRunOverrides(ofTask), "PipelineRun": PipelineRunOverrides(&v1.PipelineRun{Spec: ofPipeline}, []*v1.TaskRun{{Spec: ofTask}})} {
		if len(paths) < 15 || len(paths) > 100 || !slices.IsSorted(paths) || len(slices.Compact(slices.Clone(paths))) != len(paths) {
			t.Errorf("%s: %d paths, want 15 to 100, each once and sorted: %q", kind, len(paths), paths)
		}
		for _, path := range paths {
			if strings.Contains(path, secret) || strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.[]") != "" {
				t.Errorf("%s: %q is not a path", kind, path)
			}
		}
	}
}

func TestOverrides_DoNotChangeTheRun(t *testing.T) {
	pr := &v1.PipelineRun{Spec: v1.PipelineRunSpec{
		TaskRunSpecs:    []v1.PipelineTaskRunSpec{{PipelineTaskName: "a", ServiceAccountName: "b"}},
		TaskRunTemplate: v1.PipelineTaskRunTemplate{ServiceAccountName: "default"},
	}}
	tr := &v1.TaskRun{Spec: v1.TaskRunSpec{PodTemplate: template(), Params: v1.Params{{Name: "p"}}}}
	before, trBefore := pr.DeepCopy(), tr.DeepCopy()
	PipelineRunOverrides(pr, []*v1.TaskRun{tr})
	if !reflect.DeepEqual(pr, before) || !reflect.DeepEqual(tr, trBefore) {
		t.Errorf("got %+v and %+v, want %+v and %+v", pr, tr, before, trBefore)
	}
}
