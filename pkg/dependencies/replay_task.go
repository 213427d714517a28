// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	"github.com/tektoncd/pipeline/pkg/workspace"
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
	if err := replays.Acquire(ctx, 1); err != nil {
		return err
	}
	defer replays.Release(1)
	err := c.replaysTaskAs(ctx, tr, task, task.Name)
	if errors.Is(err, errAnotherSpec) && tr.Spec.TaskRef != nil && tr.Spec.TaskRef.Resolver != "" {
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
		before = got
		if spec, err = c.substitute(ctx, spec, name, unstarted(tr)); err != nil {
			return err
		}
	}
	return errAnotherSpec
}

// replaysPipeline returns nil if the run ran this Pipeline. See reconcile in
// pkg/reconciler/pipelinerun in tektoncd/pipeline.
func replaysPipeline(ctx context.Context, pr *v1.PipelineRun, pipeline *v1.Pipeline) (err error) {
	if err := replays.Acquire(ctx, 1); err != nil {
		return err
	}
	defer replays.Release(1)
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
func (c *collection) substitute(ctx context.Context, spec *v1.TaskSpec, taskName string, tr *v1.TaskRun) (*v1.TaskSpec, error) {
	params := paramSizes(spec.Params, tr.Spec.Params)
	if err := c.budget.allow(params, tr.Spec.Workspaces); err != nil {
		return nil, err
	}
	taskresources.ApplyParametersToWorkspaceBindings(spec, tr)
	volumes := workspace.CreateVolumes(tr.Spec.Workspaces)
	if err := c.budget.allow(params.withOthers(spec, taskName, tr), spec); err != nil {
		return nil, err
	}
	spec = taskresources.ApplyParameters(spec, tr, slices.Clone(spec.Params)...)
	// The budget counts all variables in each step, so that the bound does not
	// depend on which step fills in which variables.
	allow := func(spec *v1.TaskSpec) error {
		return errors.Join(ctx.Err(), c.budget.allow(params.others(spec, taskName, tr), spec))
	}
	spec, err := inSteps(spec, allow, func(spec *v1.TaskSpec) *v1.TaskSpec { return taskresources.ApplyContexts(spec, taskName, tr) })
	if err != nil {
		return nil, err
	}
	if tr.Spec.TaskSpec != nil {
		declareWorkspaces(spec, tr.Spec.Workspaces)
	}
	if err := checkPaths(spec); err != nil {
		return nil, err
	}
	return inSteps(spec, allow, taskresources.ApplyResults, taskresources.ApplyArtifacts, taskresources.ApplyStepExitCodePath,
		func(spec *v1.TaskSpec) *v1.TaskSpec {
			return taskresources.ApplyWorkspaces(ctx, spec, spec.Workspaces, tr.Spec.Workspaces, volumes)
		})
}

// inSteps applies functions one after another, as long as the next is allowed.
func inSteps[Spec any](spec Spec, allow func(Spec) error, steps ...func(Spec) Spec) (Spec, error) {
	for _, step := range steps {
		if err := allow(spec); err != nil {
			return spec, err
		}
		spec = step(spec)
	}
	return spec, nil
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
