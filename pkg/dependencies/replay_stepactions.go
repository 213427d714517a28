// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	taskresources "github.com/tektoncd/pipeline/pkg/reconciler/taskrun/resources"

	"github.com/trusted-resources/chains-extension/pkg/dependencies/offline"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// maxStepActions is how many steps of a Task may refer to StepActions. Kubernetes
// starts no Pod with as many containers.
const maxStepActions = 100

// withStepActions returns the spec of the Task with the content of its
// StepActions in place of the references.
func (c *collection) withStepActions(ctx context.Context, tr *v1.TaskRun, task *v1.Task) (*v1.TaskSpec, error) {
	spec := task.Spec.DeepCopy()
	spec.SetDefaults(ctx)
	if err := c.allowStepActions(ctx, tr, spec); err != nil {
		return nil, err
	}
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

// allowStepActions returns an error unless the content of all StepActions stays
// within the bounds, after Tekton has put the content in place of the references
// and filled in the parameters.
func (c *collection) allowStepActions(ctx context.Context, tr *v1.TaskRun, spec *v1.TaskSpec) error {
	if err := checkReferences(spec); err != nil {
		return err
	}
	params, total := paramSizes(spec.Params, tr.Spec.Params), 0
	for i := range spec.Steps {
		step := &spec.Steps[i]
		if step.Ref == nil {
			continue
		}
		action, err := c.stepAction(ctx, tr, spec, step, params)
		if err != nil {
			return err
		}
		size, err := c.sizeOf(action, tr, spec, step, params)
		if err != nil {
			return err
		}
		if total += size; total > maxSubstitution {
			return tooLarge(total)
		}
	}
	return nil
}

// checkReferences returns an error if more steps refer to StepActions than a report
// covers.
func checkReferences(spec *v1.TaskSpec) error {
	found := 0
	for _, step := range spec.Steps {
		if step.Ref != nil {
			found++
		}
	}
	if found > maxStepActions {
		return fmt.Errorf("%d steps refer to StepActions, expected at most %d", found, maxStepActions)
	}
	return nil
}

// stepAction returns the StepAction that the replay reads for a step.
func (c *collection) stepAction(ctx context.Context, tr *v1.TaskRun, spec *v1.TaskSpec, step *v1.Step, params sizes) (*v1beta1.StepAction, error) {
	if step.Ref.Resolver == "" {
		action, err := stepActions{c.Objects}.StepAction(ctx, tr.Namespace, step.Ref.Name)
		if err == nil && action == nil {
			err = fmt.Errorf("StepAction %s/%s is not in the cluster any more", tr.Namespace, step.Ref.Name)
		}
		return action, err
	}
	if err := c.budget.allow(params, step.Ref); err != nil {
		return nil, err
	}
	found, err := c.request(ctx, stepActionRequestName(ctx, tr, *spec, step), resource.StepAction, nil)
	if err != nil {
		return nil, err
	}
	action, _ := found.object.(*v1beta1.StepAction) // the only type of this kind
	return action, nil
}

// sizeOf returns an upper bound of the size of a StepAction with the parameters of
// a step.
func (c *collection) sizeOf(action *v1beta1.StepAction, tr *v1.TaskRun, spec *v1.TaskSpec, step *v1.Step, params sizes) (int, error) {
	if err := c.budget.allow(params, step.Params); err != nil {
		return 0, err
	}
	given := taskresources.ApplyParameters(&v1.TaskSpec{Steps: []v1.Step{{Params: step.Params}}}, tr, spec.Params...).Steps[0].Params
	filled := paramSizes(action.Spec.Params, given)
	for _, p := range given {
		// Tekton replaces such a parameter by a reference to the result of a step, and
		// makes regular expressions to find its elements.
		filled.other = max(filled.other, encodedSize(p.Value.StringVal)+pathPrefix)
		if strings.HasPrefix(p.Value.StringVal, "$(steps.") {
			const perText = 60
			filled.cost += perText * (len(action.Spec.Command) + len(action.Spec.Args) + len(action.Spec.Env))
		}
		chained := func(declared v1.ParamSpec) bool {
			return declared.Default != nil && strings.Contains(declared.Default.StringVal, paramReference)
		}
		if refersToParam(p.Value.StringVal) && slices.ContainsFunc(action.Spec.Params, chained) {
			return 0, fmt.Errorf("%w: parameter %.80q of a step refers to a parameter, and StepAction %s uses it in a default",
				errSubstitution, p.Name, action.Name)
		}
	}
	return c.budget.measure(filled, action.Spec)
}
