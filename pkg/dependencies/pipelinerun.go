package dependencies

import (
	"context"
	"slices"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// PipelineRun collects the Pipeline and, for each TaskRun, its Task and
// StepActions.
func (c *Collector) PipelineRun(ctx context.Context, pr *v1.PipelineRun, taskRuns []*v1.TaskRun) []Item {
	items := append([]Item{c.pipeline(ctx, pr)}, refused(pr)...)
	items[0].NotRun = notRun(pr)
	collected := map[string]bool{}
	for _, tr := range taskRuns {
		collected[tr.Name] = true
		items = append(items, c.taskRun(ctx, tr, PipelineTask)...)
	}
	for _, child := range pr.Status.ChildReferences {
		if !collected[child.Name] {
			missing := Item{
				Role: PipelineTask, Kind: resource.Task, Namespace: pr.Namespace, Name: child.Name,
				NoMatch: noMatch(pr.Status.Provenance),
			}
			missing.missing(unavailable("%s %s cannot be read", child.Kind, child.Name))
			items = append(items, missing)
		}
	}
	return items
}

// notRun are the tasks with a resource that a resolver fetches and without a
// run. Tekton verifies all before it starts any.
func notRun(pr *v1.PipelineRun) (names []string) {
	if pr.Status.PipelineSpec == nil {
		return nil
	}
	run := map[string]bool{}
	for _, child := range pr.Status.ChildReferences {
		run[child.PipelineTaskName] = true
	}
	for _, task := range slices.Concat(pr.Status.PipelineSpec.Tasks, pr.Status.PipelineSpec.Finally) {
		fetched := task.TaskRef != nil && task.TaskRef.Resolver != "" || task.PipelineRef != nil && task.PipelineRef.Resolver != ""
		if fetched && !run[task.Name] {
			names = append(names, task.Name)
		}
	}
	return names
}

// refused is the resource for whose sake Tekton refused the run, unless that is
// the Pipeline: there is no run of it that could say more.
func refused(pr *v1.PipelineRun) []Item {
	condition := pr.Status.GetCondition(apis.ConditionSucceeded)
	if condition.GetReason() != v1.PipelineRunReasonResourceVerificationFailed.String() {
		return nil
	}
	for _, name := range notRun(pr) {
		if strings.Contains(condition.GetMessage(), " referred resource "+name+" failed ") {
			found := Item{
				Role: PipelineTask, Kind: resource.Task, Namespace: pr.Namespace, Name: name, Referenced: true,
				NoMatch: noMatch(pr.Status.Provenance),
			}
			found.missing(unavailable("Tekton refused what task %s refers to", name))
			return []Item{found}
		}
	}
	return nil
}

func (c *Collector) pipeline(ctx context.Context, pr *v1.PipelineRun) Item {
	r := run{Object: pr, owners: []types.UID{pr.UID}}
	found := Item{
		Role: Pipeline, Kind: resource.Pipeline, Namespace: pr.Namespace, Name: pr.Name,
		NoMatch: noMatch(pr.Status.Provenance),
	}
	switch ref := pr.Spec.PipelineRef; {
	case ref == nil:
		found.missing(&gap{policy.Inline, "the PipelineRun carries its spec itself"})
	case ref.Resolver != "":
		found.Referenced = true
		if pr.Status.Provenance == nil || pr.Status.Provenance.RefSource == nil {
			found.missing(unavailable("the run has recorded no source of its Pipeline"))
			break
		}
		found.Source = *pr.Status.Provenance.RefSource
		res := c.fill(ctx, r, &found, pipelineRequestName(ctx, pr), string(ref.Resolver))
		if unrecorded(found) {
			found.prove(ctx, pr, res.object)
		}
	default:
		found.Name = ref.Name
		if object := c.live(ctx, r, &found); object != nil {
			found.prove(ctx, pr, object)
		}
	}
	return found
}

// prove takes back the content of a Pipeline unless the run ran it.
func (i *Item) prove(ctx context.Context, pr *v1.PipelineRun, object resource.Object) {
	pipeline, missing := asPipeline(ctx, object)
	if missing == nil {
		missing = replaysPipeline(ctx, pr, pipeline)
	}
	if missing != nil {
		i.unproven(missing)
	}
}
