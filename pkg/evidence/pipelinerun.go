package evidence

import (
	"context"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/verify"
)

// PipelineRun collects the Pipeline and, for each TaskRun, its Task and
// StepActions.
func (c *Collector) PipelineRun(ctx context.Context, pr *v1.PipelineRun, taskRuns []*v1.TaskRun) []Item {
	items := []Item{c.pipeline(ctx, pr)}
	collected := map[string]bool{}
	for _, tr := range taskRuns {
		collected[tr.Name] = true
		items = append(items, c.taskRun(ctx, tr, pr)...)
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

func (c *Collector) pipeline(ctx context.Context, pr *v1.PipelineRun) Item {
	r := run{namespace: pr.Namespace, owners: []types.UID{pr.UID}, annotations: pr.Annotations}
	found := Item{
		Role: Pipeline, Kind: resource.Pipeline, Namespace: pr.Namespace, Name: pr.Name,
		NoMatch: noMatch(pr.Status.Provenance),
	}
	switch ref := pr.Spec.PipelineRef; {
	case ref == nil:
		found.missing(&gap{verify.Inline, "the PipelineRun carries its spec itself"})
	case ref.Resolver != "":
		found.Referenced = true
		if pr.Status.Provenance == nil || pr.Status.Provenance.RefSource == nil {
			found.missing(unavailable("the run has recorded no source of its Pipeline"))
			break
		}
		found.Source = *pr.Status.Provenance.RefSource
		c.fill(ctx, r, &found, pipelineRequestName(ctx, pr), string(ref.Resolver))
	default:
		found.Name = ref.Name
		if pipeline, ok := c.live(ctx, r, &found).(*v1.Pipeline); ok {
			if missing := replaysPipeline(ctx, pr, pipeline); missing != nil {
				found.unproven(missing)
			}
		}
	}
	return found
}
