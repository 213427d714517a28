// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	rprp "github.com/tektoncd/pipeline/pkg/reconciler/pipelinerun/pipelinespec"
	pipelineresources "github.com/tektoncd/pipeline/pkg/reconciler/pipelinerun/resources"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	remote "github.com/tektoncd/pipeline/pkg/remoteresolution/resource"
	"github.com/tektoncd/pipeline/pkg/workspace"

	"github.com/trusted-resources/chains-extension/pkg/dependencies/offline"
)

// reconciliations is how often Tekton substitutes in the recorded spec.
const reconciliations = 2

// recordTaskRun sets the status of a run of the Task with Tekton's own functions, in the
// order of prepare and reconcile in pkg/reconciler/taskrun.
func (w *testCluster) recordTaskRun(ctx context.Context, tr *v1.TaskRun, task *v1.Task) error {
	spec := task.Spec.DeepCopy()
	spec.SetDefaults(ctx)
	clientset, err := offline.NewClientset(stepActions{w.objects})
	if err != nil {
		return err
	}
	steps, err := taskresources.GetStepActionsData(ctx, *spec, tr.DeepCopy(), clientset, nil, w.collection(w.objectsOnce(), tr, tr.UID))
	if err != nil {
		return err
	}
	spec.Steps = steps
	for range reconciliations {
		again := tr.DeepCopy()
		taskresources.ApplyParametersToWorkspaceBindings(spec, again)
		volumes := workspace.CreateVolumes(again.Spec.Workspaces)
		spec = taskresources.ApplyParameters(spec, again, spec.Params...)
		spec = taskresources.ApplyContexts(spec, task.Name, again)
		spec = taskresources.ApplyResults(spec)
		spec = taskresources.ApplyArtifacts(spec)
		spec = taskresources.ApplyStepExitCodePath(spec)
		spec.Workspaces = propagated(spec.Workspaces, again.Spec.Workspaces)
		spec = taskresources.ApplyWorkspaces(ctx, spec, spec.Workspaces, again.Spec.Workspaces, volumes)
	}
	tr.Status.TaskSpec = spec
	return nil
}

func propagated(declared []v1.WorkspaceDeclaration, bound []v1.WorkspaceBinding) []v1.WorkspaceDeclaration {
	known := map[string]bool{}
	for _, declaration := range declared {
		known[declaration.Name] = true
	}
	for _, binding := range bound {
		if !known[binding.Name] {
			declared = append(declared, v1.WorkspaceDeclaration{Name: binding.Name})
		}
	}
	return declared
}

// recordPipelineRun does the same as reconcile in pkg/reconciler/pipelinerun.
func recordPipelineRun(ctx context.Context, pr *v1.PipelineRun, pipeline *v1.Pipeline) error {
	spec := pipeline.Spec.DeepCopy()
	spec.SetDefaults(ctx)
	for range reconciliations {
		again := pr.DeepCopy()
		pipelineresources.ApplyParametersToWorkspaceBindings(again)
		applied, err := pipelineresources.ApplyParameters(spec, again)
		if err != nil {
			return err
		}
		spec = pipelineresources.ApplyContexts(applied, pipeline.Name, again)
		spec = pipelineresources.ApplyWorkspaces(spec, again)
	}
	pr.Status.PipelineSpec = spec
	return nil
}

// getPipelineFunc returns the function with which Tekton gets the Pipeline of a run.
func getPipelineFunc(t *testing.T, requester remote.Requester, pr *v1.PipelineRun) rprp.GetPipeline {
	t.Helper()
	return pipelineresources.GetPipelineFunc(t.Context(), nil, nil, requester, pr.DeepCopy(), nil)
}
