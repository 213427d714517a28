// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	remote "github.com/tektoncd/pipeline/pkg/remoteresolution/resource"
	"github.com/tektoncd/pipeline/pkg/resolution/common"
)

// requestRecorder records the name of the ResolutionRequest that Tekton's
// functions submit. Tekton makes the name from the run and the parameters of the
// reference, after substitution.
type requestRecorder struct{ name string }

var _ remote.Requester = (*requestRecorder)(nil)

// Submit implements remote.Requester.
func (r *requestRecorder) Submit(_ context.Context, _ remote.ResolverName, request remote.Request) (remote.ResolvedResource, error) {
	r.name = request.ResolverPayload().Name
	return nil, common.ErrRequestInProgress
}

// taskRequestName returns the empty name if the parameters of the reference become
// too large.
func taskRequestName(ctx context.Context, tr *v1.TaskRun) string {
	vars := paramSizes(nil, tr.Spec.Params).withOthers(&v1.TaskSpec{}, "", tr)
	if newBudget().allow(vars, tr.Spec.TaskRef) != nil {
		return ""
	}
	r := &requestRecorder{}
	get := taskresources.GetTaskFunc(ctx, nil, nil, r, tr, tr.Spec.TaskRef.DeepCopy(), tr.Name, tr.Namespace, tr.Spec.ServiceAccountName, nil)
	_, _, _, _ = get(ctx, tr.Name) // returns ErrRequestInProgress
	return r.name
}

// stepActionRequestName substitutes in the reference of the step: the caller asks
// the budget first.
func stepActionRequestName(ctx context.Context, tr *v1.TaskRun, spec v1.TaskSpec, step *v1.Step) string {
	r := &requestRecorder{}
	get := taskresources.GetStepActionFunc(nil, nil, r, tr, spec, step.DeepCopy())
	_, _, _ = get(ctx, step.Ref.Name)
	return r.name
}

// pipelineRequestName uses Tekton's function for Tasks: the one for Pipelines
// differs only in the context variables, and its package watches Pods and Secrets.
// It returns the empty name if the parameters of the reference become too large.
func pipelineRequestName(ctx context.Context, pr *v1.PipelineRun) string {
	ref, values, vars := pr.Spec.PipelineRef.DeepCopy(), contexts(pr, &v1.Pipeline{}), newSizes()
	vars.putTexts(values)
	if newBudget().allow(vars, ref) != nil {
		return ""
	}
	ref.Params = ref.Params.ReplaceVariables(values, nil, nil)
	return taskRequestName(ctx, &v1.TaskRun{
		ObjectMeta: pr.ObjectMeta,
		Spec:       v1.TaskRunSpec{Params: pr.Spec.Params, TaskRef: &v1.TaskRef{Name: ref.Name, ResolverRef: ref.ResolverRef}},
	})
}
