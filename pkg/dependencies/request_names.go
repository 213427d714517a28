package dependencies

import (
	"context"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	remote "github.com/tektoncd/pipeline/pkg/remoteresolution/resource"
	"github.com/tektoncd/pipeline/pkg/resolution/common"
)

// namer stands where Tekton submits a ResolutionRequest, and keeps its name:
// Tekton makes it from the run and the parameters, after substitution.
type namer struct{ name string }

var _ remote.Requester = (*namer)(nil)

// Submit implements remote.Requester.
func (n *namer) Submit(_ context.Context, _ remote.ResolverName, request remote.Request) (remote.ResolvedResource, error) {
	n.name = request.ResolverPayload().Name
	return nil, common.ErrRequestInProgress
}

func taskRequestName(ctx context.Context, tr *v1.TaskRun) string {
	n := &namer{}
	get := taskresources.GetTaskFunc(ctx, nil, nil, n, tr, tr.Spec.TaskRef.DeepCopy(), tr.Name, tr.Namespace, tr.Spec.ServiceAccountName, nil)
	_, _, _, _ = get(ctx, tr.Name) // ends with ErrRequestInProgress, or without a name
	return n.name
}

func stepActionRequestName(ctx context.Context, tr *v1.TaskRun, spec v1.TaskSpec, step *v1.Step) string {
	n := &namer{}
	get := taskresources.GetStepActionFunc(nil, nil, n, tr, spec, step.DeepCopy())
	_, _, _ = get(ctx, step.Ref.Name)
	return n.name
}

// pipelineRequestName has the name made as for a Task: it is made in the same
// way, but for the context variables.
func pipelineRequestName(ctx context.Context, pr *v1.PipelineRun) string {
	ref := pr.Spec.PipelineRef.DeepCopy()
	ref.Params = ref.Params.ReplaceVariables(contexts(pr, &v1.Pipeline{}), nil, nil)
	return taskRequestName(ctx, &v1.TaskRun{
		ObjectMeta: pr.ObjectMeta,
		Spec:       v1.TaskRunSpec{Params: pr.Spec.Params, TaskRef: &v1.TaskRef{Name: ref.Name, ResolverRef: ref.ResolverRef}},
	})
}
