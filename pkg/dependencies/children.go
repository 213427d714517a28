// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// children are the TaskRuns of a PipelineRun, by the tasks of its Pipeline.
//
// Tekton finds the TaskRun of a task by its name or by its labels. Tekton does not
// check who created the TaskRun, nor which Task it ran. So a TaskRun counts only if
// the PipelineRun controls it, if it is the first that the PipelineRun had under
// this name, and if it has the reference or spec and the parameters of the task.
type children struct {
	pr        *v1.PipelineRun
	creations RunCreations
	tasks     map[string]pipelineTask // by name of the task
	taskOf    map[string]string       // name of the task, by name of the TaskRun
	values    runValues
	requests  map[string]taskRequest // by name of the task
	// missing are the parameters of the TaskRuns that were not found, by name of the
	// task.
	missing map[string][]v1.Params
}

// pipelineTask is one task of a Pipeline.
type pipelineTask struct {
	*v1.PipelineTask
	finally bool
}

func newChildren(pr *v1.PipelineRun, taskRuns []*v1.TaskRun, creations RunCreations) *children {
	c := &children{
		pr: pr, creations: creations,
		tasks: map[string]pipelineTask{}, taskOf: map[string]string{}, missing: map[string][]v1.Params{},
		requests: map[string]taskRequest{},
	}
	for _, child := range pr.Status.ChildReferences {
		c.taskOf[child.Name] = child.PipelineTaskName
	}
	if spec := pr.Status.PipelineSpec; spec != nil {
		for i := range spec.Tasks {
			c.tasks[spec.Tasks[i].Name] = pipelineTask{PipelineTask: &spec.Tasks[i]}
		}
		for i := range spec.Finally {
			c.tasks[spec.Finally[i].Name] = pipelineTask{PipelineTask: &spec.Finally[i], finally: true}
		}
	}
	c.values = newRunValues(c, taskRuns)
	return c
}

// check returns nil if the TaskRun counts as the run of its task, or else why it
// does not. It is called once for each TaskRun.
func (c *children) check(ctx context.Context, tr *v1.TaskRun) (err error) {
	defer recoverInvalidSpec(&err)
	if owner := metav1.GetControllerOf(tr); owner == nil || owner.UID != c.pr.UID {
		return mismatch("PipelineRun %s does not control TaskRun %s, so Tekton did not create the TaskRun for it", c.pr.Name, tr.Name)
	}
	if c.pr.Status.PipelineSpec == nil {
		return errNoRecordedSpec
	}
	task, found := c.tasks[c.taskOf[tr.Name]]
	if !found {
		return mismatch("TaskRun %s belongs to task %q, which the Pipeline does not have", tr.Name, c.taskOf[tr.Name])
	}
	if err := c.asks(ctx, task, tr); err != nil {
		return err
	}
	if !c.creations.IsFirstChild(c.pr, tr) {
		return fmt.Errorf("TaskRun %s may have taken the place of another TaskRun of this name: the controller did not see its creation, "+
			"or saw another TaskRun of this name before", tr.Name)
	}
	return nil
}

// asks returns nil if the task asks for this TaskRun: for its reference or spec,
// and for its parameters.
func (c *children) asks(ctx context.Context, task pipelineTask, tr *v1.TaskRun) error {
	want, err := c.request(ctx, task)
	if err != nil {
		return err
	}
	got := tr.Spec.DeepCopy()
	got.SetDefaults(ctx)
	differs := ""
	switch {
	case !sameReference(want.taskRef, got.TaskRef, c.pr.Namespace):
		differs = "refers to another Task"
	case !want.hasSpec(got.TaskSpec):
		differs = "has another spec"
	case !c.take(task.Name, got.Params):
		differs = "has other parameters"
	default:
		return nil
	}
	message := fmt.Sprintf("TaskRun %s %s than task %s of the Pipeline asks for", tr.Name, differs, task.Name)
	if want.dynamic {
		// The values of some variables are not known, such as results of CustomRuns.
		return policy.Unavailable{Reason: policy.ContentUnavailable, Message: message + ", or a value that Tekton filled in is not known"}
	}
	return mismatch("%s", message)
}

// request returns what a task asks of its TaskRuns, which is the same for all.
func (c *children) request(ctx context.Context, task pipelineTask) (taskRequest, error) {
	if known, found := c.requests[task.Name]; found {
		return known, nil
	}
	request, err := c.values.request(ctx, task)
	if err == nil {
		c.requests[task.Name], c.missing[task.Name] = request, request.params
	}
	return request, err
}

// take reports whether the parameters are those of a TaskRun that was not found
// before, and removes that TaskRun from the missing ones.
func (c *children) take(task string, params v1.Params) bool {
	params = byName(params)
	at := slices.IndexFunc(c.missing[task], func(missing v1.Params) bool { return equality.Semantic.DeepEqual(missing, params) })
	if at < 0 {
		return false
	}
	c.missing[task] = slices.Delete(c.missing[task], at, at+1)
	return true
}

// incomplete returns one dependency for each task with a matrix of which only a
// part ran, although the PipelineRun succeeded: Tekton looks only at the TaskRuns
// that it found.
func (c *children) incomplete() (dependencies []Dependency) {
	if !c.pr.IsSuccessful() {
		return nil
	}
	for _, task := range slices.Sorted(maps.Keys(c.missing)) {
		if left := len(c.missing[task]); left > 0 && c.tasks[task].IsMatrixed() {
			dependencies = append(dependencies, unavailable(taskOf(c.pr, task),
				mismatch("%d combinations of the matrix of task %s have no TaskRun", left, task)))
		}
	}
	return dependencies
}

func mismatch(format string, args ...any) error {
	return policy.Unavailable{Reason: policy.ReferenceMismatch, Message: fmt.Sprintf(format, args...)}
}
