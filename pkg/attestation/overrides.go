// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"reflect"
	"slices"
	"strings"

	"github.com/tektoncd/pipeline/pkg/apis/config"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/pod"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// TaskRunOverrides returns the fields of a TaskRun's spec that change how its
// resources run, sorted. No signature covers these fields. A path consists of
// names of Tekton's types only: values, and names that users choose, may be
// secrets. Left out are the reference and the spec, which have entries of their
// own, and what only says when the run ends.
func TaskRunOverrides(spec v1.TaskRunSpec) []string {
	spec.TaskRef, spec.TaskSpec = nil, nil
	spec.Status, spec.StatusMessage, spec.Retries, spec.Timeout = "", "", 0, nil
	spec.ManagedBy = managedByAnother(spec.ManagedBy)
	spec.ServiceAccountName = notDefault(spec.ServiceAccountName)
	return sortedPaths(fieldPaths("", spec))
}

// PipelineRunOverrides returns the same for a PipelineRun and its TaskRuns. One path
// stands for the taskRunSpecs of all tasks. The paths below taskRuns[] are fields
// that the PipelineRun does not explain: something else than Tekton made the
// TaskRun, or Tekton's defaults changed meanwhile.
func PipelineRunOverrides(pr *v1.PipelineRun, taskRuns []*v1.TaskRun) []string {
	spec, template := pr.Spec, pr.Spec.TaskRunTemplate
	spec.PipelineRef, spec.PipelineSpec = nil, nil
	spec.Status, spec.Timeouts = "", nil
	spec.TaskRunTemplate, spec.TaskRunSpecs = v1.PipelineTaskRunTemplate{}, nil
	spec.ManagedBy = managedByAnother(spec.ManagedBy)
	template.ServiceAccountName = notDefault(template.ServiceAccountName)
	paths := append(fieldPaths("", spec), fieldPaths("taskRunTemplate.", template)...)
	for _, ofTask := range pr.Spec.TaskRunSpecs {
		ofTask.PipelineTaskName = ""
		paths = append(paths, fieldPaths("taskRunSpecs[].", ofTask)...)
	}
	for _, tr := range taskRuns {
		for _, path := range TaskRunOverrides(withoutExplained(pr, tr)) {
			paths = append(paths, "taskRuns[]."+path)
		}
	}
	return sortedPaths(paths)
}

// withoutExplained returns the spec of a TaskRun without the fields that Tekton sets
// from the Pipeline and the PipelineRun (createTaskRun in pkg/reconciler/pipelinerun
// in tektoncd/pipeline).
func withoutExplained(pr *v1.PipelineRun, tr *v1.TaskRun) v1.TaskRunSpec {
	spec, explained := tr.Spec, pr.GetTaskRunSpec(pipelineTaskOf(pr, tr.Name))
	spec.Params, spec.Workspaces = nil, nil
	if spec.ServiceAccountName == explained.ServiceAccountName {
		spec.ServiceAccountName = ""
	}
	if equality.Semantic.DeepEqual(spec.PodTemplate, explained.PodTemplate) {
		spec.PodTemplate = nil
	}
	if equality.Semantic.DeepEqual(spec.StepSpecs, explained.StepSpecs) {
		spec.StepSpecs = nil
	}
	if equality.Semantic.DeepEqual(spec.SidecarSpecs, explained.SidecarSpecs) {
		spec.SidecarSpecs = nil
	}
	if equality.Semantic.DeepEqual(spec.ComputeResources, explained.ComputeResources) {
		spec.ComputeResources = nil
	}
	return spec
}

// pipelineTaskOf returns the name of the task that a TaskRun ran, empty if the
// PipelineRun does not record it.
func pipelineTaskOf(pr *v1.PipelineRun, taskRun string) string {
	for _, child := range pr.Status.ChildReferences {
		if child.Name == taskRun {
			return child.PipelineTaskName
		}
	}
	return ""
}

// notDefault returns the name of a service account, empty for that which Tekton
// fills in by default.
func notDefault(serviceAccount string) string {
	if serviceAccount == config.DefaultServiceAccountValue {
		return ""
	}
	return serviceAccount
}

// managedByAnother returns the name of the controller of a run, nil for Tekton's.
func managedByAnother(controller *string) *string {
	if controller != nil && *controller == pipeline.ManagedBy {
		return nil
	}
	return controller
}

// fieldPaths returns the JSON names of the fields of a struct that are not empty,
// those of a Pod template one by one. Fields that a later Tekton adds are included.
func fieldPaths(prefix string, spec any) (paths []string) {
	for field, value := range reflect.ValueOf(spec).Fields() {
		if isEmpty(value) {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if template, ok := reflect.TypeAssert[*pod.PodTemplate](value); ok {
			paths = append(paths, fieldPaths(prefix+name+".", *template)...)
			continue
		}
		paths = append(paths, prefix+name)
	}
	return paths
}

func isEmpty(value reflect.Value) bool {
	if value.Kind() == reflect.Slice || value.Kind() == reflect.Map {
		return value.Len() == 0
	}
	return value.IsZero()
}

func sortedPaths(paths []string) []string {
	slices.Sort(paths)
	return slices.Compact(paths)
}
