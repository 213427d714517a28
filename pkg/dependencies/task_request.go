// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	"github.com/tektoncd/pipeline/pkg/substitution"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// maxCombinations is the largest number of combinations of a matrix that is
// compared with TaskRuns. Tekton's default limit is 256.
const maxCombinations = 1024

// maxCombinedParams bounds the parameters in all combinations of a matrix.
const maxCombinedParams = 32 << 10

// taskRequest is what a task of a Pipeline asks of its TaskRuns.
type taskRequest struct {
	taskRef  *v1.TaskRef
	taskSpec []byte // as stored; nil if the task refers to a Task
	// params are the parameters of each TaskRun, by name. A task without a matrix has
	// one TaskRun.
	params []v1.Params
	// dynamic reports that the task refers to values that Tekton fills in when it
	// creates the TaskRun.
	dynamic bool
}

// request returns what a task asks of its TaskRuns. It fills in values in the same
// order as Tekton, with Tekton's own functions, see createTaskRun in
// pkg/reconciler/pipelinerun in tektoncd/pipeline.
func (v runValues) request(ctx context.Context, from pipelineTask) (taskRequest, error) {
	task := from.DeepCopy()
	dynamic, err := isDynamic(task)
	if err != nil {
		return taskRequest{}, err
	}
	if err := v.fillIn(task, from.finally); err != nil {
		return taskRequest{}, err
	}
	spec := v1.TaskRunSpec{TaskRef: task.TaskRef}
	if task.TaskSpec != nil {
		embedded := task.TaskSpec.TaskSpec.DeepCopy()
		embedded.SetDefaults(ctx)
		if err := v.budget.allow(v.propagatedSizes, embedded); err != nil {
			return taskRequest{}, err
		}
		spec.TaskSpec = taskresources.ApplyReplacements(embedded, v.propagated.texts, v.propagated.lists, nil)
	}
	spec.SetDefaults(ctx)
	request := taskRequest{taskRef: spec.TaskRef, dynamic: dynamic}
	if spec.TaskSpec != nil {
		if request.taskSpec, err = asStored(spec.TaskSpec); err != nil {
			return taskRequest{}, err
		}
	}
	request.params, err = paramsOf(task)
	return request, err
}

// isDynamic reports whether the task as the PipelineRun recorded it, with the
// parameters of the run filled in, still refers to a variable.
func isDynamic(task *v1.PipelineTask) (bool, error) {
	data, err := json.Marshal([]any{task.TaskRef, task.TaskSpec, task.Params, task.Matrix})
	return bytes.Contains(data, []byte("$(tasks.")) || bytes.Contains(data, []byte("$(context.")), err
}

// fillIn fills in the values of a task, as long as the budget allows it.
func (v runValues) fillIn(task *v1.PipelineTask, finally bool) error {
	states, results, lengths := replacements{texts: v.states}, v.resultsFor(task), replacements{texts: v.lengths}
	contexts := replacements{texts: map[string]string{"context.pipelineTask.retries": strconv.Itoa(task.Retries)}}
	type step struct {
		values replacements
		in     func(*v1.PipelineTask, replacements)
	}
	steps := []step{{results, replaceIn}, {results, replaceInMatrix}, {lengths, replaceInParams}, {contexts, replaceInParams}, {contexts, replaceInMatrix}}
	if finally {
		steps = slices.Insert(steps, 0, step{states, replaceIn})
	}
	for _, step := range steps {
		if err := v.budget.allow(step.values.sizes(), task.Params, task.TaskRef, task.Matrix); err != nil {
			return err
		}
		step.in(task, step.values)
	}
	return nil
}

func replaceInParams(task *v1.PipelineTask, r replacements) {
	task.Params = task.Params.ReplaceVariables(r.texts, r.lists, r.objects)
}

// replaceIn fills in values in the parameters and the reference of a task.
func replaceIn(task *v1.PipelineTask, r replacements) {
	replaceInParams(task, r)
	if task.TaskRef != nil {
		task.TaskRef.Params = task.TaskRef.Params.ReplaceVariables(r.texts, r.lists, r.objects)
		task.TaskRef.Name = substitution.ApplyReplacements(task.TaskRef.Name, r.texts)
	}
}

// replaceInMatrix fills in values in the matrix of a task. Tekton fills in no
// objects there, and no lists in combinations that the matrix names.
func replaceInMatrix(task *v1.PipelineTask, r replacements) {
	if !task.IsMatrixed() {
		return
	}
	task.Matrix.Params = task.Matrix.Params.ReplaceVariables(r.texts, r.lists, nil)
	for i := range task.Matrix.Include {
		task.Matrix.Include[i].Params = task.Matrix.Include[i].Params.ReplaceVariables(r.texts, nil, nil)
	}
}

// paramsOf returns the parameters of each TaskRun of a task: those of the task, and a
// combination of its matrix.
func paramsOf(task *v1.PipelineTask) ([]v1.Params, error) {
	if !task.IsMatrixed() {
		return []v1.Params{byName(task.Params)}, nil
	}
	if !boundedMatrix(task.Matrix) {
		return nil, fmt.Errorf("task %s has a matrix with more than %d combinations, or more than %d parameters in all of them",
			task.Name, maxCombinations, maxCombinedParams)
	}
	all := task.Matrix.FanOut()
	for i, combination := range all {
		all[i] = byName(slices.Concat(combination, task.Params))
	}
	return all, nil
}

// boundedMatrix reports whether the combinations of a matrix are few.
func boundedMatrix(matrix *v1.Matrix) bool {
	if len(matrix.Include) > maxCombinations || matrix.CountCombinations() > maxCombinations {
		return false
	}
	params := len(matrix.Params)
	for _, include := range matrix.Include {
		params += len(include.Params)
	}
	return matrix.CountCombinations()*params <= maxCombinedParams
}

// sameReference reports whether a TaskRun refers to the Task that its task asks
// for. The admission policies of this project replace a name by a reference to the
// cluster resolver (config/admission).
func sameReference(want, got *v1.TaskRef, namespace string) bool {
	if equality.Semantic.DeepEqual(want, got) {
		return true
	}
	if want == nil || got == nil || want.Resolver != "" || got.Resolver != resolverCluster || got.Name != "" {
		return false
	}
	return equality.Semantic.DeepEqual(byName(got.Params), v1.Params{
		{Name: "kind", Value: *v1.NewStructuredValues(strings.ToLower(string(resource.Task)))},
		{Name: "name", Value: *v1.NewStructuredValues(want.Name)},
		{Name: "namespace", Value: *v1.NewStructuredValues(namespace)},
	})
}

// byName returns the parameters in the order of their names: Tekton does not look at
// their order.
func byName(params v1.Params) v1.Params {
	return slices.SortedStableFunc(slices.Values(params), func(a, b v1.Param) int { return cmp.Compare(a.Name, b.Name) })
}

// hasSpec reports whether the spec that a TaskRun has itself is the one of the task.
func (r taskRequest) hasSpec(got *v1.TaskSpec) bool {
	if r.taskSpec == nil || got == nil {
		return r.taskSpec == nil && got == nil
	}
	found, err := asStored(got)
	return err == nil && bytes.Equal(r.taskSpec, found)
}
