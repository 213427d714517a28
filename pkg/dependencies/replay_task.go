package dependencies

import (
	"bytes"
	"context"
	"encoding/json"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"
	"github.com/tektoncd/pipeline/pkg/workspace"
)

// maxRounds: Tekton substitutes again each time that it reconciles a run, also
// in what it substituted before.
const maxRounds = 4

// replaysTask says whether the run ran this Task: Tekton's own functions make
// of it, with the StepActions of now, what the run's status says. See
// prepare and reconcile in pkg/reconciler/taskrun in tektoncd/pipeline.
func (c *Collector) replaysTask(ctx context.Context, r run, tr *v1.TaskRun, task *v1.Task) *gap {
	if tr.Status.TaskSpec == nil {
		return unavailable("the run has recorded no spec")
	}
	missing := c.replaysTaskAs(ctx, r, tr, task, task.Name)
	if missing != nil && tr.Spec.TaskRef != nil && tr.Spec.TaskRef.Resolver != "" {
		// Once Tekton has waited for a StepAction, it calls a resolved Task by
		// the name of the run.
		missing = c.replaysTaskAs(ctx, r, tr, task, tr.Name)
	}
	return missing
}

func (c *Collector) replaysTaskAs(ctx context.Context, r run, tr *v1.TaskRun, task *v1.Task, name string) *gap {
	return replays(tr.Status.TaskSpec, func() (*v1.TaskSpec, error) {
		spec := task.Spec.DeepCopy()
		spec.SetDefaults(ctx)
		steps, err := taskresources.GetStepActionsData(ctx, *spec, unstarted(tr), cluster{objects: c.Objects}, nil, requester{c, r})
		if err != nil {
			return nil, err
		}
		spec.Steps = steps
		return spec, nil
	}, func(spec *v1.TaskSpec) *v1.TaskSpec { return substitute(ctx, spec, name, unstarted(tr)) })
}

// replaysPipeline is the same for a Pipeline, see reconcile in
// pkg/reconciler/pipelinerun.
func replaysPipeline(ctx context.Context, pr *v1.PipelineRun, pipeline *v1.Pipeline) (missing *gap) {
	defer recovered(&missing)
	written := pipeline.Spec.DeepCopy()
	written.SetDefaults(ctx)
	return derivesPipeline(pr, pipeline, written)
}

// recovered turns a panic into a gap. Tekton validates a spec before it
// substitutes; what is in the cluster now was never validated against this run.
func recovered(missing **gap) {
	if problem := recover(); problem != nil {
		*missing = unavailable("what is in the cluster cannot be applied to this run: %v", problem)
	}
}

// replays substitutes until the result is what the run recorded, or stays as it
// is.
func replays[Spec any](recorded *Spec, begin func() (*Spec, error), round func(*Spec) *Spec) (missing *gap) {
	defer recovered(&missing)
	want, err := json.Marshal(recorded)
	if err != nil {
		return unavailable("%v", err)
	}
	spec, err := begin()
	if err != nil {
		return unavailable("%v", err)
	}
	var before []byte
	for range maxRounds {
		got, err := asStored(spec)
		if err != nil {
			return unavailable("a spec cannot be read back: %v", err)
		}
		if bytes.Equal(got, want) {
			return nil
		}
		if bytes.Equal(got, before) {
			break
		}
		before, spec = got, round(spec)
	}
	return unavailable("what is in the cluster is not what ran")
}

// asStored is the JSON of what is read back: a spec that was never stored may
// hold what JSON drops.
func asStored[Spec any](spec *Spec) ([]byte, error) {
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	stored := new(Spec)
	if err := json.Unmarshal(data, stored); err != nil {
		return nil, err
	}
	return json.Marshal(stored)
}

// substitute is one round of a TaskRun's reconciliation.
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
		declare(spec, tr.Spec.Workspaces)
	}
	return taskresources.ApplyWorkspaces(ctx, spec, spec.Workspaces, tr.Spec.Workspaces, volumes)
}

// declare adds declarations of the workspaces that a run with a spec of its own
// has without one. A run that refers to a Task may not have such.
func declare(spec *v1.TaskSpec, bound []v1.WorkspaceBinding) {
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

// unstarted is a copy that Tekton's functions may write to.
func unstarted(tr *v1.TaskRun) *v1.TaskRun {
	unstarted := tr.DeepCopy()
	unstarted.Status.Steps, unstarted.Status.TaskSpec, unstarted.Status.RetriesStatus = nil, nil, nil
	return unstarted
}
