// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	"github.com/tektoncd/pipeline/pkg/workspace"

	"github.com/trusted-resources/chains-extension/pkg/dependencies/offline"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// maxRounds is how often a replay substitutes at most. Tekton substitutes each
// time that it reconciles a run, also in the values of an earlier substitution.
const maxRounds = 4

var (
	errNoRecordedSpec = errors.New("the run has recorded no spec")
	errAnotherSpec    = errors.New("the content in the cluster or in the ResolutionRequests is not what ran")
)

// replaysTask returns nil if the run ran this Task with the StepActions that can
// be read now: Tekton's own functions make the spec in the run's status of them.
// See prepare and reconcile in pkg/reconciler/taskrun in tektoncd/pipeline.
func (c *collection) replaysTask(ctx context.Context, tr *v1.TaskRun, task *v1.Task) error {
	if tr.Status.TaskSpec == nil {
		return errNoRecordedSpec
	}
	err := c.replaysTaskAs(ctx, tr, task, task.Name)
	if err != nil && tr.Spec.TaskRef != nil && tr.Spec.TaskRef.Resolver != "" {
		// After Tekton waited for a StepAction, it uses the name of the run as the
		// name of a resolved Task.
		err = c.replaysTaskAs(ctx, tr, task, tr.Name)
	}
	return err
}

// replaysTaskAs substitutes until the spec is the recorded one, or substitution
// changes nothing any more.
func (c *collection) replaysTaskAs(ctx context.Context, tr *v1.TaskRun, task *v1.Task, name string) (err error) {
	defer recoverInvalidSpec(&err)
	want, err := json.Marshal(tr.Status.TaskSpec)
	if err != nil {
		return err
	}
	spec, err := c.withStepActions(ctx, tr, task)
	if err != nil {
		return err
	}
	var before []byte
	for range maxRounds {
		got, err := asStored(spec)
		if err != nil {
			return fmt.Errorf("a replayed spec cannot be read back: %w", err)
		}
		if bytes.Equal(got, want) {
			return nil
		}
		if bytes.Equal(got, before) {
			break
		}
		before, spec = got, substitute(ctx, spec, name, unstarted(tr))
	}
	return errAnotherSpec
}

// withStepActions returns the spec of the Task with the content of its
// StepActions in place of the references.
func (c *collection) withStepActions(ctx context.Context, tr *v1.TaskRun, task *v1.Task) (*v1.TaskSpec, error) {
	spec := task.Spec.DeepCopy()
	spec.SetDefaults(ctx)
	clientset, err := offline.NewClientset(stepActions{c.Objects})
	if err != nil {
		return nil, err
	}
	spec.Steps, err = taskresources.GetStepActionsData(ctx, *spec, unstarted(tr), clientset, nil, c)
	return spec, err
}

// stepActions reads the StepActions that a replay needs.
type stepActions struct{ objects Objects }

// StepAction implements offline.StepActions.
func (s stepActions) StepAction(ctx context.Context, namespace, name string) (*v1beta1.StepAction, error) {
	object, err := s.objects.Object(ctx, resource.StepAction, namespace, name)
	if err != nil {
		return nil, err
	}
	stepAction, _ := object.(*v1beta1.StepAction) // nil if there is none
	return stepAction, nil
}

// replaysPipeline returns nil if the run ran this Pipeline. See reconcile in
// pkg/reconciler/pipelinerun in tektoncd/pipeline.
func replaysPipeline(ctx context.Context, pr *v1.PipelineRun, pipeline *v1.Pipeline) (err error) {
	defer recoverInvalidSpec(&err)
	written := pipeline.Spec.DeepCopy()
	written.SetDefaults(ctx)
	return derivesPipeline(pr, pipeline, written)
}

// recoverInvalidSpec returns a panic as an error. Tekton validates a spec against
// the run before it substitutes. The content in the cluster now was never
// validated against this run, and Tekton's functions may panic.
func recoverInvalidSpec(err *error) {
	if problem := recover(); problem != nil {
		*err = fmt.Errorf("the content in the cluster cannot be applied to this run: %v", problem)
	}
}

// asStored returns the JSON of the spec after it was stored and read back. A spec
// that was never stored may hold values that JSON drops.
func asStored(spec *v1.TaskSpec) ([]byte, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	stored := &v1.TaskSpec{}
	if err := json.Unmarshal(data, stored); err != nil {
		return nil, err
	}
	return json.Marshal(stored)
}

// substitute returns the spec after one reconciliation of the TaskRun.
func substitute(ctx context.Context, spec *v1.TaskSpec, taskName string, tr *v1.TaskRun) *v1.TaskSpec {
	taskresources.ApplyParametersToWorkspaceBindings(spec, tr)
	volumes := workspace.CreateVolumes(tr.Spec.Workspaces)
	defaults := append([]v1.ParamSpec(nil), spec.Params...)
	spec = taskresources.ApplyParameters(spec, tr, defaults...)
	spec = taskresources.ApplyContexts(spec, taskName, tr)
	spec = taskresources.ApplyResults(spec)
	spec = taskresources.ApplyArtifacts(spec)
	spec = taskresources.ApplyStepExitCodePath(spec)
	if tr.Spec.TaskSpec != nil {
		declareWorkspaces(spec, tr.Spec.Workspaces)
	}
	return taskresources.ApplyWorkspaces(ctx, spec, spec.Workspaces, tr.Spec.Workspaces, volumes)
}

// declareWorkspaces adds a declaration for each workspace that the run binds and
// the spec does not declare. Only a run with its own spec may bind such ones.
func declareWorkspaces(spec *v1.TaskSpec, bound []v1.WorkspaceBinding) {
	declared := map[string]bool{}
	for _, declaration := range spec.Workspaces {
		declared[declaration.Name] = true
	}
	for _, binding := range bound {
		if !declared[binding.Name] {
			spec.Workspaces = append(spec.Workspaces, v1.WorkspaceDeclaration{Name: binding.Name})
		}
	}
}

// unstarted returns a copy of the TaskRun as it was before it started. Tekton's
// functions may write to the copy.
func unstarted(tr *v1.TaskRun) *v1.TaskRun {
	unstarted := tr.DeepCopy()
	unstarted.Status.Steps, unstarted.Status.TaskSpec, unstarted.Status.RetriesStatus = nil, nil, nil
	return unstarted
}
