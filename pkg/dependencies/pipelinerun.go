// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// CollectPipelineRun returns the Pipeline of a PipelineRun and, for each of its
// TaskRuns, the Task and the StepActions.
func (c *Collector) CollectPipelineRun(ctx context.Context, pr *v1.PipelineRun, taskRuns []*v1.TaskRun) []Dependency {
	objects := c.objectsOnce()
	dependencies := append([]Dependency{c.pipeline(ctx, objects, pr)}, refusedTask(pr)...)
	children := newChildren(pr, taskRuns, c.Creations)
	collected := map[string]bool{}
	for _, tr := range taskRuns {
		collected[tr.Name] = true
		dependencies = append(dependencies, c.child(ctx, objects, children, tr)...)
	}
	dependencies = append(dependencies, children.incomplete()...)
	for _, child := range pr.Status.ChildReferences {
		if !collected[child.Name] {
			dependencies = append(dependencies, unavailable(taskOf(pr, child.Name), fmt.Errorf("%s %s cannot be read", child.Kind, child.Name)))
		}
	}
	return dependencies
}

// CollectChild returns what stands behind one TaskRun of a PipelineRun while the
// PipelineRun is in progress: the Pipeline, and the Task and the StepActions of the
// TaskRun. For each of the other TaskRuns so far that does not count as the run of its
// task, there is one Dependency that says so, because the results of that TaskRun may
// be parameters of this one. CustomRuns and child PipelineRuns are left out: they are
// no TaskRuns, and the TaskRuns of a child PipelineRun have a Pipeline of their own.
func (c *Collector) CollectChild(ctx context.Context, pr *v1.PipelineRun, taskRuns []*v1.TaskRun, child *v1.TaskRun) []Dependency {
	objects := c.objectsOnce()
	dependencies := []Dependency{c.pipeline(ctx, objects, pr)}
	children := newChildren(pr, taskRuns, c.Creations)
	for _, tr := range taskRuns {
		if tr.UID == child.UID {
			dependencies = append(dependencies, c.child(ctx, objects, children, tr)...)
		} else if err := children.check(ctx, tr); err != nil {
			dependencies = append(dependencies, unavailable(taskOf(pr, tr.Name), err))
		}
	}
	return dependencies
}

// child returns the Task and the StepActions of a TaskRun of a PipelineRun.
func (c *Collector) child(ctx context.Context, objects *objectsOnce, children *children, tr *v1.TaskRun) []Dependency {
	found := c.taskRun(ctx, objects, tr, PipelineTask)
	if err := children.check(ctx, tr); err != nil {
		return notCounted(children.pr, tr, found, err)
	}
	return found
}

// notCounted returns the dependencies of a TaskRun that does not count as the run of
// its task. The content of each is not that of a dependency of the PipelineRun.
func notCounted(pr *v1.PipelineRun, tr *v1.TaskRun, dependencies []Dependency, err error) []Dependency {
	reason := unavailable(taskOf(pr, tr.Name), err)
	if len(dependencies) == 0 { // the TaskRun has its own spec
		return []Dependency{reason}
	}
	for i := range dependencies {
		dependencies[i].Content, dependencies[i].Unavailable = nil, reason.Unavailable
	}
	return dependencies
}

// taskOf returns a finding of a Task of a PipelineRun that has no TaskRun.
func taskOf(pr *v1.PipelineRun, name string) finding {
	return finding{
		reference: reference{role: PipelineTask, kind: resource.Task, noMatch: noMatch(pr.Status.Provenance)},
		namespace: pr.Namespace, name: name,
	}
}

// notRun returns the names of the tasks whose resource a resolver fetched, and
// that have no run. Tekton verifies all tasks before it starts any.
func notRun(pr *v1.PipelineRun) (names []string) {
	if pr.Status.PipelineSpec == nil {
		return nil
	}
	run := map[string]bool{}
	for _, child := range pr.Status.ChildReferences {
		run[child.PipelineTaskName] = true
	}
	for _, task := range slices.Concat(pr.Status.PipelineSpec.Tasks, pr.Status.PipelineSpec.Finally) {
		resolved := task.TaskRef != nil && task.TaskRef.Resolver != "" || task.PipelineRef != nil && task.PipelineRef.Resolver != ""
		if resolved && !run[task.Name] {
			names = append(names, task.Name)
		}
	}
	return names
}

// refusedTask returns the Task because of which Tekton refused the run. It
// returns nothing if Tekton did not refuse the run, or because of the Pipeline.
// The Task has no TaskRun, so its content is not known.
func refusedTask(pr *v1.PipelineRun) []Dependency {
	condition := pr.Status.GetCondition(apis.ConditionSucceeded)
	if condition.GetReason() != v1.PipelineRunReasonResourceVerificationFailed.String() {
		return nil
	}
	for _, name := range notRun(pr) {
		if strings.Contains(condition.GetMessage(), " referred resource "+name+" failed ") {
			f := taskOf(pr, name)
			f.resolved = true
			return []Dependency{unavailable(f, fmt.Errorf("the verification by Tekton failed for the resource of task %s, so it did not run", name))}
		}
	}
	return nil
}

func (c *Collector) pipeline(ctx context.Context, objects *objectsOnce, pr *v1.PipelineRun) Dependency {
	run := c.collection(objects, pr, pr.UID)
	f := finding{
		reference: reference{role: Pipeline, kind: resource.Pipeline, noMatch: noMatch(pr.Status.Provenance), notRun: notRun(pr)},
		namespace: pr.Namespace, name: pr.Name,
	}
	switch ref := pr.Spec.PipelineRef; {
	case ref == nil:
		f = f.failed(policy.Unavailable{Reason: policy.Inline, Message: "the PipelineRun carries its spec itself"})
	case ref.Resolver == "":
		f.name = ref.Name
		f = run.local(ctx, f)
	case pr.Status.Provenance == nil || pr.Status.Provenance.RefSource == nil:
		f.resolved = true
		f = f.failed(errors.New("the run has recorded no source of its Pipeline"))
	default:
		f.resolved = true
		f = run.resolve(ctx, f, pipelineRequestName(ctx, pr), ref.Resolver, pr.Status.Provenance.RefSource)
	}
	return run.conclude(ctx, provePipeline(ctx, pr, f))
}

// provePipeline replays the PipelineRun if the content of the finding needs that
// proof, and returns the finding with the outcome.
func provePipeline(ctx context.Context, pr *v1.PipelineRun, f finding) finding {
	if !f.needsReplay() {
		return f
	}
	pipeline, err := asPipeline(ctx, f.content.object)
	if err == nil {
		err = replaysPipeline(ctx, pr, pipeline)
	}
	if err != nil {
		return f.notProven(err)
	}
	return f
}
