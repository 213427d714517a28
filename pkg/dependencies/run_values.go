// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
)

// runValues are the values that Tekton fills in for variables when it creates the
// TaskRun of a task: they are known only while the PipelineRun is in progress.
// See apply.go and resultrefresolution.go in pkg/reconciler/pipelinerun/resources
// in tektoncd/pipeline.
type runValues struct {
	results map[resultKey]v1.TaskRunResult
	// propagated are the results in a spec that a task carries itself. Tekton
	// knows fewer notations there than in parameters and references.
	propagated      replacements
	propagatedSizes sizes
	states          map[string]string // of other tasks, in tasks that run finally
	lengths         map[string]string // of matrices
	budget          *budget
}

// resultKey names a result of a task.
type resultKey struct{ task, result string }

// newRunValues returns the values that the TaskRuns of a PipelineRun left.
func newRunValues(c *children, taskRuns []*v1.TaskRun) runValues {
	v := runValues{
		results: map[resultKey]v1.TaskRunResult{}, propagated: newReplacements(),
		states: map[string]string{}, lengths: map[string]string{},
		budget: newBudget(),
	}
	byTask := map[string][]*v1.TaskRun{}
	for _, tr := range slices.SortedFunc(slices.Values(taskRuns), func(a, b *v1.TaskRun) int { return cmp.Compare(a.Name, b.Name) }) {
		byTask[c.taskOf[tr.Name]] = append(byTask[c.taskOf[tr.Name]], tr)
	}
	for name, task := range c.tasks {
		results := resultsOf(task, byTask[name])
		if task.IsMatrixed() {
			v.lengths[fmt.Sprintf("tasks.%s.matrix.length", name)] = strconv.Itoa(task.Matrix.CountCombinations())
			for _, result := range results {
				v.lengths[fmt.Sprintf("tasks.%s.matrix.%s.length", name, result.Name)] = strconv.Itoa(len(result.Value.ArrayVal))
			}
		}
		for _, result := range results {
			v.results[resultKey{name, result.Name}] = result
			v.propagated.propagate(name, result)
		}
	}
	v.propagatedSizes = v.propagated.sizes()
	v.addStates(c, byTask)
	return v
}

// resultsOf returns the results of the TaskRuns of a task. Those of a task with a
// matrix are lists with one element for each TaskRun.
func resultsOf(task pipelineTask, taskRuns []*v1.TaskRun) []v1.TaskRunResult {
	if len(taskRuns) == 0 {
		return nil
	}
	if !task.IsMatrixed() {
		return taskRuns[0].Status.Results
	}
	elements := map[string][]string{}
	for _, tr := range taskRuns {
		for _, result := range tr.Status.Results {
			elements[result.Name] = append(elements[result.Name], result.Value.StringVal)
		}
	}
	lists := make([]v1.TaskRunResult, 0, len(elements))
	for name, list := range elements {
		lists = append(lists, v1.TaskRunResult{
			Name: name, Type: v1.ResultsTypeArray, Value: v1.ResultValue{Type: v1.ParamTypeArray, ArrayVal: list},
		})
	}
	return lists
}

// resultsFor returns the values of the results that the parameters of a task refer
// to. Tekton fills in no others. With more than maxVariables, the rest is left out,
// as results that are not known.
func (v runValues) resultsFor(task *v1.PipelineTask) replacements {
	r, added, variables := newReplacements(), map[resultKey]bool{}, 0
	for _, ref := range v1.PipelineTaskResultRefs(task) {
		key := resultKey{ref.PipelineTask, ref.Result}
		result, known := v.results[key]
		if !known || added[key] {
			continue
		}
		if variables += 1 + len(result.Value.ArrayVal) + len(result.Value.ObjectVal); variables > maxVariables {
			break
		}
		r.addResult(key.task, result)
		added[key] = true
	}
	return r
}

// addResult adds the value of a result under each notation of a reference to it.
func (r replacements) addResult(task string, result v1.TaskRunResult) {
	prefix := fmt.Sprintf("%s.%s.%s", v1.ResultTaskPart, task, v1.ResultResultPart)
	r.put(prefix+"."+result.Name, result.Value, dotted)
	r.put(fmt.Sprintf("%s[%q]", prefix, result.Name), result.Value, bracketed)
	r.put(fmt.Sprintf("%s['%s']", prefix, result.Name), result.Value, bracketed)
}

// propagate adds the value of a result as in a spec that a task carries itself.
func (r replacements) propagate(task string, result v1.TaskRunResult) {
	name := fmt.Sprintf("%s.%s.%s.%s", v1.ResultTaskPart, task, v1.ResultResultPart, result.Name)
	switch result.Value.Type {
	case v1.ParamTypeArray:
		r.lists[name] = result.Value.ArrayVal
	case v1.ParamTypeObject:
		for property, text := range result.Value.ObjectVal {
			r.texts[name+"."+property] = text
		}
	case v1.ParamTypeString:
		fallthrough
	default:
		r.texts[name] = result.Value.StringVal
	}
}

// addStates adds the states of the tasks that do not run finally, and the state of
// all of them together. See GetPipelineTaskStatus in tektoncd/pipeline.
func (v runValues) addStates(c *children, byTask map[string][]*v1.TaskRun) {
	all := v1.PipelineRunReasonSuccessful.String()
	for name, task := range c.tasks {
		if task.finally {
			continue
		}
		status, reason := stateOf(byTask[name])
		v.states[fmt.Sprintf("tasks.%s.status", name)], v.states[fmt.Sprintf("tasks.%s.reason", name)] = status, reason
		switch {
		case status == v1.TaskRunReasonFailed.String():
			all = v1.PipelineRunReasonFailed.String()
		case status == stateNone && all == v1.PipelineRunReasonSuccessful.String():
			all = v1.PipelineRunReasonCompleted.String()
		}
	}
	v.states[v1.PipelineTasksAggregateStatus] = all
}

// stateNone is the state of a task that did not run.
const stateNone = "None"

// stateOf returns the state of a task, and the reason of the first TaskRun that did
// not succeed, or of the first TaskRun.
func stateOf(taskRuns []*v1.TaskRun) (status, reason string) {
	if len(taskRuns) == 0 {
		return stateNone, ""
	}
	status, reason = v1.TaskRunReasonSuccessful.String(), reasonOf(taskRuns[0])
	for _, tr := range slices.Backward(taskRuns) {
		if tr.IsSuccessful() {
			continue
		}
		reason = reasonOf(tr)
		if status != v1.TaskRunReasonFailed.String() {
			status = stateNone
		}
		if tr.IsFailure() {
			status = v1.TaskRunReasonFailed.String()
		}
	}
	return status, reason
}

func reasonOf(tr *v1.TaskRun) string {
	if len(tr.Status.Conditions) == 0 {
		return ""
	}
	return tr.Status.Conditions[0].Reason
}
