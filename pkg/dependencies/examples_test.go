// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// The runs give values for all parameters, or only for those without a default.
func TestCollect_ProvesExamplesOfTekton(t *testing.T) {
	count := map[resource.Kind]int{}
	for _, e := range examples(t) {
		for _, given := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s all=%v", e.file, given), func(t *testing.T) {
				for _, task := range e.tasks {
					w, tr := e.runTask(t, task, given)
					allEstablished(t, count, w.CollectTaskRun(t.Context(), tr))
				}
				for _, pipeline := range e.pipelines {
					w, pr := e.runPipeline(t, pipeline, given)
					allEstablished(t, count, w.CollectPipelineRun(t.Context(), pr, nil))
				}
			})
		}
	}
	t.Logf("established: %v", count)
	for _, kind := range resource.Kinds {
		if count[kind] == 0 {
			t.Errorf("no %s among the examples", kind)
		}
	}
}

// runTask returns a cluster with the example, and a run of the Task.
func (e *example) runTask(t *testing.T, task *v1.Task, all bool) (*testCluster, *v1.TaskRun) {
	t.Helper()
	w := newTestCluster(t)
	w.objects.put(e.stepActions...)
	return w, w.ran(runOf(task, e.values(task.Spec.Params, all)), task)
}

func (e *example) runPipeline(t *testing.T, pipeline *v1.Pipeline, all bool) (*testCluster, *v1.PipelineRun) {
	t.Helper()
	w := newTestCluster(t)
	w.objects.put(pipeline)
	pr := pipelineRunOf(pipeline, e.values(pipeline.Spec.Params, all))
	if err := recordPipelineRun(t.Context(), pr, pipeline); err != nil {
		t.Fatal(err)
	}
	return w, stored(pr)
}

func TestCollect_RejectsExamplesWithOneChange(t *testing.T) {
	for _, e := range examples(t) {
		for _, task := range e.tasks {
			w, tr := e.runTask(t, task, true)
			another := task.DeepCopy()
			another.Spec.Steps[0].Name += "-evil"
			w.objects.put(another)
			notEstablished(t, e.file, w.CollectTaskRun(t.Context(), tr)[0])
		}
		for _, pipeline := range e.pipelines {
			w, pr := e.runPipeline(t, pipeline, true)
			another := pipeline.DeepCopy()
			another.Spec.Tasks[0].Name += "-evil"
			w.objects.put(another)
			notEstablished(t, e.file, w.CollectPipelineRun(t.Context(), pr, nil)[0])
		}
	}
}

func notEstablished(t *testing.T, what string, item Dependency) {
	t.Helper()
	if item.Content != nil {
		t.Errorf("%s: the content of %s %s is established", what, item.Kind, item.Name)
	}
}

func allEstablished(t *testing.T, count map[resource.Kind]int, items []Dependency) {
	t.Helper()
	for _, item := range items {
		if item.Content == nil {
			t.Errorf("%s %s is not established: %s", item.Kind, item.Name, item.Unavailable.Message)
		}
		count[item.Kind]++
	}
}

func runOf(task *v1.Task, params v1.Params) *v1.TaskRun {
	return taskRun("run", func(tr *v1.TaskRun) {
		tr.Spec.TaskRef = &v1.TaskRef{Name: task.Name}
		tr.Spec.Params = params
		for _, declared := range task.Spec.Workspaces {
			tr.Spec.Workspaces = append(tr.Spec.Workspaces, binding(declared.Name))
		}
	})
}

func pipelineRunOf(pipeline *v1.Pipeline, params v1.Params) *v1.PipelineRun {
	return pipelineRun(func(pr *v1.PipelineRun) {
		pr.Spec.PipelineRef = &v1.PipelineRef{Name: pipeline.Name}
		pr.Spec.Params = params
		for _, declared := range pipeline.Spec.Workspaces {
			pr.Spec.Workspaces = append(pr.Spec.Workspaces, binding(declared.Name))
		}
	})
}

func binding(name string) v1.WorkspaceBinding {
	return v1.WorkspaceBinding{Name: name, PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"}}
}

// values returns a value for each declared parameter, or only for those without a
// default, and the values of the example for undeclared parameters.
func (e *example) values(declared v1.ParamSpecs, all bool) (given v1.Params) {
	known := map[string]bool{}
	for _, p := range declared {
		known[p.Name] = true
		if p.Default == nil || all {
			given = append(given, v1.Param{Name: p.Name, Value: *value(p)})
		}
	}
	for _, p := range e.params {
		if !known[p.Name] {
			known[p.Name] = true
			given = append(given, p)
		}
	}
	return given
}

func value(p v1.ParamSpec) *v1.ParamValue {
	switch p.Type {
	case v1.ParamTypeArray:
		return array("one", "two $1", "three/3", "four", "five")
	case v1.ParamTypeObject:
		object := map[string]string{}
		for key := range p.Properties {
			object[key] = "given " + key
		}
		return v1.NewObject(object)
	case v1.ParamTypeString:
	}
	return text(strings.Join(append(p.Enum, "given-"+p.Name)[:1], ""))
}

// stored returns the object as it is read back from the API server.
func stored[O runtime.Object](object O) O {
	data := must(runtime.Encode(scheme.Codecs.LegacyCodec(v1.SchemeGroupVersion), object))
	return must(runtime.Decode(scheme.Codecs.UniversalDeserializer(), data)).(O)
}
