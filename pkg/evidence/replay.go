package evidence

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

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
	return replays(tr.Status.TaskSpec, func() (*v1.TaskSpec, error) {
		spec := task.Spec.DeepCopy()
		spec.SetDefaults(ctx)
		steps, err := taskresources.GetStepActionsData(ctx, *spec, unstarted(tr), cluster{objects: c.Objects}, nil, requester{c, r})
		if err != nil {
			return nil, err
		}
		spec.Steps = steps
		return spec, nil
	}, func(spec *v1.TaskSpec) (*v1.TaskSpec, error) {
		return substitute(ctx, spec, task.Name, unstarted(tr)), nil
	})
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

// replays substitutes until the result is what the run recorded.
func replays[Spec any](recorded *Spec, begin func() (*Spec, error), round func(*Spec) (*Spec, error)) (missing *gap) {
	defer recovered(&missing)
	want, err := json.Marshal(recorded)
	if err != nil {
		return unavailable("%v", err)
	}
	spec, err := begin()
	for range maxRounds {
		if err != nil {
			return unavailable("%v", err)
		}
		var same bool
		if same, err = marshalsTo(spec, want); same {
			return nil
		}
		if err == nil {
			spec, err = round(spec)
		}
	}
	return unavailable("what is in the cluster is not what ran")
}

// marshalsTo compares as stored: a spec that was never stored may hold what
// JSON drops.
func marshalsTo[Spec any](spec *Spec, want []byte) (bool, error) {
	stored := new(Spec)
	data, err := json.Marshal(spec)
	if err == nil {
		err = json.Unmarshal(data, stored)
	}
	if err == nil {
		data, err = json.Marshal(stored)
	}
	if err != nil {
		return false, fmt.Errorf("a spec cannot be read back: %w", err)
	}
	return bytes.Equal(data, want), nil
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
	declared := map[string]bool{}
	for _, declaration := range spec.Workspaces {
		declared[declaration.Name] = true
	}
	for _, binding := range tr.Spec.Workspaces {
		if !declared[binding.Name] {
			spec.Workspaces = append(spec.Workspaces, v1.WorkspaceDeclaration{Name: binding.Name})
		}
	}
	return taskresources.ApplyWorkspaces(ctx, spec, spec.Workspaces, tr.Spec.Workspaces, volumes)
}

// unstarted is a copy that Tekton's functions may write to.
func unstarted(tr *v1.TaskRun) *v1.TaskRun {
	unstarted := tr.DeepCopy()
	unstarted.Status.Steps, unstarted.Status.TaskSpec = nil, nil
	return unstarted
}
