// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"context"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// run is a TaskRun or a PipelineRun.
type run interface {
	metav1.Object
	GetGroupVersionKind() schema.GroupVersionKind
	GetStatusCondition() apis.ConditionAccessor
	IsDone() bool
}

var (
	_ run = (*v1.TaskRun)(nil)
	_ run = (*v1.PipelineRun)(nil)
)

// onVerdict emits Tekton's verdict on each run that ends while this replica looks after runs
// with this name. The verdict on a PipelineRun can change before: Tekton writes one for the
// Pipeline while the Tasks are still resolved. Runs that had ended when the process began may
// have been counted by another.
func (c *Controller) onVerdict(ctx context.Context) cache.ResourceEventHandler {
	ended := func(before, now any) {
		run, ok := now.(run)
		if !ok || !ends(before, run) || !c.countsVerdict(run) {
			return
		}
		if verdict, found := verdictOn(run); found {
			c.Emitter.Emit(ctx, observe.TektonJudged{Kind: run.GetGroupVersionKind().Kind, Verdict: verdict})
		}
	}
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(added any, initial bool) {
			if !initial {
				ended(nil, added)
			}
		},
		UpdateFunc: ended,
	}
}

// countsVerdict reports whether a run is in scope. The runs with which the controller tries a
// key say nothing about the cluster.
func (c *Controller) countsVerdict(run run) bool {
	name := types.NamespacedName{Namespace: run.GetNamespace(), Name: run.GetName()}
	return c.IsLeaderFor(name) && name.Namespace != v1alpha1.CanaryNamespace &&
		(len(c.Scope) == 0 || slices.Contains(c.Scope, name.Namespace))
}

// ends reports whether a run is done that was not done before. A run with the same name may
// have been deleted meanwhile.
func ends(before any, now run) bool {
	old, ok := before.(run)
	return now.IsDone() && (!ok || old.GetUID() != now.GetUID() || !old.IsDone())
}

// verdictOn returns Tekton's verdict on a run; found is false if no policy matched. Tekton
// writes the same condition in the modes warn and enforce, and fails the run in the mode
// enforce.
func verdictOn(run run) (verdict observe.TektonVerdict, found bool) {
	status := run.GetStatusCondition()
	condition := status.GetCondition(trustedresources.ConditionTrustedResourcesVerified)
	switch {
	case condition == nil:
		return "", false
	case condition.IsTrue():
		return observe.TektonPassed, true
	case isRefused(status.GetCondition(apis.ConditionSucceeded)):
		return observe.TektonRefused, true
	default:
		return observe.TektonWarned, true
	}
}

func isRefused(succeeded *apis.Condition) bool {
	reason := succeeded.GetReason()
	return succeeded.IsFalse() &&
		(reason == v1.TaskRunReasonResourceVerificationFailed.String() || reason == v1.PipelineRunReasonResourceVerificationFailed.String())
}
