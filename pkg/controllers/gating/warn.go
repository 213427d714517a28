// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"context"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/gate"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// wantsWarning reports whether a TaskRun in a namespace with VerifyWarn has a Pod about
// which nothing was said. TaskRuns that had ended when this process began are left out.
func (c *Controller) wantsWarning(tr *v1.TaskRun) bool {
	ended := tr.Status.CompletionTime
	return c.mode(tr.Namespace) == v1alpha1.VerifyWarn && tr.Status.PodName != "" && tr.Status.TaskSpec != nil &&
		(ended == nil || !ended.Time.Before(c.began)) && !c.Decisions.has(warned(tr))
}

// warned identifies the Pod of a TaskRun in a namespace with VerifyWarn, where Pods are
// not watched.
func warned(tr *v1.TaskRun) types.UID { return types.UID(string(tr.UID) + "/" + tr.Status.PodName) }

// warn reports the decision about a TaskRun that starts anyway, if its namespace wants
// that.
func (c *Controller) warn(ctx context.Context, tr *v1.TaskRun) error {
	if !c.wantsWarning(tr) {
		return nil
	}
	d := c.judge(ctx, tr)
	if d.Action == gate.Wait {
		return c.wait(ctx, tr, string(warned(tr)), d.Message)
	}
	c.Decisions.pods.Set(warned(tr), struct{}{}, decisionLifetime)
	c.Emitter.Emit(ctx, observe.GateWarned{TaskRun: reference(tr), Refused: d.Message, Warnings: d.Warnings})
	return nil
}
