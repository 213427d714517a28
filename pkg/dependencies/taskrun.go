// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// CollectTaskRun returns the Task and the StepActions of a TaskRun.
func (c *Collector) CollectTaskRun(ctx context.Context, tr *v1.TaskRun) []Dependency {
	dependencies := c.taskRun(ctx, c.objectsOnce(), tr, Task)
	if tr.Spec.TaskSpec != nil {
		inline := unavailable(findingOf(tr, Task), policy.Unavailable{Reason: policy.Inline, Message: "the TaskRun carries its spec itself"})
		dependencies = slices.Insert(dependencies, 0, inline)
	}
	return dependencies
}

// taskRun returns the Task, in this role, and the StepActions of a TaskRun. It
// returns nothing for a spec in the TaskRun itself: if the TaskRun belongs to a
// PipelineRun, that spec is a part of the Pipeline.
func (c *Collector) taskRun(ctx context.Context, objects *objectsOnce, tr *v1.TaskRun, role Role) []Dependency {
	if err := objects.count(1); err != nil {
		return []Dependency{unavailable(findingOf(tr, role), err)}
	}
	run := c.collection(objects, tr, requestOwners(tr)...)
	var findings []finding
	var task *v1.Task
	switch {
	case tr.Spec.TaskSpec != nil:
		task = &v1.Task{ObjectMeta: tr.ObjectMeta, Spec: *tr.Spec.TaskSpec}
	case tr.Spec.TaskRef == nil:
		return nil // Tekton refuses such a TaskRun
	default:
		var found finding
		found, task = run.task(ctx, tr, role)
		findings = append(findings, found)
		if task == nil {
			return run.taskOnly(ctx, tr, found)
		}
	}
	findings = append(findings, run.stepActions(ctx, tr, task)...)
	if err := objects.count(len(findings)); err != nil {
		return []Dependency{unavailable(findingOf(tr, role), err)}
	}
	findings = run.proveTask(ctx, tr, task, findings)
	dependencies := make([]Dependency, 0, len(findings))
	for _, f := range findings {
		dependencies = append(dependencies, run.conclude(ctx, f))
	}
	return dependencies
}

// requestOwners returns the UIDs of the objects that may own ResolutionRequests
// for a TaskRun: a PipelineRun submits those for the Tasks of its TaskRuns.
func requestOwners(tr *v1.TaskRun) []types.UID {
	owners := make([]types.UID, 0, 1+len(tr.OwnerReferences))
	owners = append(owners, tr.UID)
	for _, owner := range tr.OwnerReferences {
		owners = append(owners, owner.UID)
	}
	return owners
}

// findingOf returns a finding of the Task of a TaskRun with what the status of
// the TaskRun says, and with the name of the TaskRun until a better one is known.
func findingOf(tr *v1.TaskRun, role Role) finding {
	return finding{
		reference: reference{
			role: role, kind: resource.Task, noMatch: noMatch(tr.Status.Provenance),
			condition: tr.Status.GetCondition(trustedresources.ConditionTrustedResourcesVerified),
		},
		namespace: tr.Namespace, name: tr.Name,
	}
}

// stepActionOf returns the same for a StepAction. Tekton does not verify
// StepActions, so there is no condition.
func stepActionOf(tr *v1.TaskRun, name string) finding {
	return finding{
		reference: reference{role: StepAction, kind: resource.StepAction, noMatch: noMatch(tr.Status.Provenance)},
		namespace: tr.Namespace, name: name,
	}
}

func noMatch(p *v1.Provenance) policy.Mode {
	if p == nil || p.FeatureFlags == nil {
		return policy.NoMatch("")
	}
	return policy.NoMatch(p.FeatureFlags.VerificationNoMatchPolicy)
}

// task returns the finding of the Task that a TaskRun refers to, and the Task as
// Tekton runs it, nil if its content is not known.
func (c *collection) task(ctx context.Context, tr *v1.TaskRun, role Role) (finding, *v1.Task) {
	f, ref := findingOf(tr, role), tr.Spec.TaskRef
	switch {
	case ref.Resolver == "":
		f.name = ref.Name
		f = c.local(ctx, f)
	case tr.Status.Provenance == nil || tr.Status.Provenance.RefSource == nil:
		f.resolved = true
		f = f.failed(errors.New("the run has recorded no source of its Task"))
	default:
		f.resolved = true
		f = c.resolve(ctx, f, taskRequestName(ctx, tr), ref.Resolver, tr.Status.Provenance.RefSource)
	}
	if f.err != nil || f.content.object == nil {
		return f, nil
	}
	task, err := asTask(ctx, f.content.object)
	if err != nil {
		return f.failed(err), nil
	}
	return f, task
}

// taskOnly returns the dependencies of a TaskRun without the content of its
// Task. If the checksum is known, one Dependency stands for the StepActions: the
// status of a TaskRun does not tell whether there were any.
func (c *collection) taskOnly(ctx context.Context, tr *v1.TaskRun, f finding) []Dependency {
	task := c.conclude(ctx, f)
	if task.Content == nil {
		return []Dependency{task}
	}
	why := errors.New("is not in the cluster as it ran any more")
	if f.content.err != nil {
		why = fmt.Errorf("cannot be read (%w)", f.content.err)
	}
	return []Dependency{task, unavailable(stepActionOf(tr, ""),
		fmt.Errorf("the Task of %s %w, so it is not known which StepActions the Task referred to", tr.Name, why))}
}

// stepActions returns the findings of the StepActions that a Task refers to,
// each once.
func (c *collection) stepActions(ctx context.Context, tr *v1.TaskRun, task *v1.Task) []finding {
	if err := checkReferences(&task.Spec); err != nil {
		return []finding{stepActionOf(tr, "").failed(err)}
	}
	var findings []finding
	params := paramSizes(task.Spec.Params, tr.Spec.Params)
	for i := range task.Spec.Steps {
		step := &task.Spec.Steps[i]
		if step.Ref == nil {
			continue
		}
		f := stepActionOf(tr, step.Ref.Name)
		f.resolved = step.Ref.Resolver != ""
		if !f.resolved {
			f = c.local(ctx, f)
		} else if err := c.budget.allow(params, step.Ref); err != nil {
			f = f.failed(err)
		} else {
			f = c.resolve(ctx, f, stepActionRequestName(ctx, tr, task.Spec, step), step.Ref.Resolver, nil)
		}
		if !slices.ContainsFunc(findings, f.same) {
			findings = append(findings, f)
		}
	}
	return findings
}

// proveTask replays the TaskRun if the content of a finding needs that proof,
// and returns the findings with the outcome.
func (c *collection) proveTask(ctx context.Context, tr *v1.TaskRun, task *v1.Task, findings []finding) []finding {
	if !slices.ContainsFunc(findings, finding.needsReplay) {
		return findings
	}
	err := c.replaysTask(ctx, tr, task)
	if err == nil {
		return findings
	}
	proven := make([]finding, 0, len(findings))
	for _, f := range findings {
		proven = append(proven, f.notProven(err))
	}
	return proven
}
