// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"context"
	"fmt"
	"slices"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/attestation"
	"github.com/trusted-resources/chains-extension/pkg/gate"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// judge returns the decision about a TaskRun.
func (c *Controller) judge(ctx context.Context, tr *v1.TaskRun) gate.Decision {
	ctx, span := observe.StartSpan(ctx, observe.StepVerify, reference(tr))
	defer span.End()
	records, missing := c.verify(ctx, tr)
	if missing == "" && ctx.Err() != nil {
		missing = "the verification did not end in time"
	}
	d := gate.Decision{Action: gate.Wait, Message: missing}
	if missing == "" {
		d = gate.Decide(records, attestation.TaskRunOverrides(tr.Spec), c.Config().Gate)
	}
	span.Set("action", string(d.Action))
	if d.Action != gate.Wait {
		c.Decided(records, c.delays.Clock.Now())
	}
	return d
}

// verify returns the records of what stands behind a TaskRun. missing says what Tekton
// has not recorded yet.
func (c *Controller) verify(ctx context.Context, tr *v1.TaskRun) (records []attestation.Record, missing string) {
	if tr.Status.TaskSpec == nil {
		return nil, "Tekton has not recorded what the TaskRun executes"
	}
	parent := metav1.GetControllerOf(tr)
	if parent == nil || parent.Kind != pipeline.PipelineRunControllerName {
		return c.Verifier.TaskRun(ctx, tr), ""
	}
	pr, err := c.pipelineRuns.PipelineRuns(tr.Namespace).Get(parent.Name)
	if err != nil || pr.UID != parent.UID {
		return nil, fmt.Sprintf("PipelineRun %s, which controls the TaskRun, is not known", parent.Name)
	}
	taskRuns, missing := c.children(pr, tr)
	if missing != "" {
		return nil, missing
	}
	return c.Verifier.Child(ctx, pr, taskRuns, tr), ""
}

// children returns the TaskRuns of a PipelineRun so far.
func (c *Controller) children(pr *v1.PipelineRun, child *v1.TaskRun) (taskRuns []*v1.TaskRun, missing string) {
	recorded := slices.ContainsFunc(pr.Status.ChildReferences, func(ref v1.ChildStatusReference) bool { return ref.Name == child.Name })
	if !recorded || pr.Status.PipelineSpec == nil {
		return nil, fmt.Sprintf("Tekton has not recorded the TaskRun as one of PipelineRun %s", pr.Name)
	}
	for _, ref := range pr.Status.ChildReferences {
		if ref.Kind != pipeline.TaskRunControllerName {
			continue
		}
		tr, err := c.taskRuns.TaskRuns(pr.Namespace).Get(ref.Name)
		if err != nil {
			return nil, fmt.Sprintf("TaskRun %s of PipelineRun %s is not known", ref.Name, pr.Name)
		}
		taskRuns = append(taskRuns, tr)
	}
	return taskRuns, ""
}
