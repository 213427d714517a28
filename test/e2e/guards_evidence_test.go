// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// An editor changes a signed StepAction, starts a run, and puts the signed content back
// as soon as Tekton has made the Pod. The run never starts.
func TestGuards_StepActionPutBackInTimeStartsNothing(t *testing.T) {
	e := startController(t)
	e.configure(withProvenance)
	e.installAdmission()
	g := &gated{newMatrix(e)}
	ns := g.enforced()
	editor := g.hostileIn(ns)
	started := g.recordStarted(ns)
	g.createStepAction(ns, "greet", true)
	g.signedTask(ns, "greets", withStepAction(&v1.Ref{Name: "greet"}))
	p := place{g, ns}
	g.createTaskRun(ns, "honest", p.task("greets"))
	g.expectSuccess(g.waitDone(ns, "honest"))

	actions := editor.Tekton.TektonV1beta1().StepActions(ns)
	write := func(command string) {
		patch := fmt.Sprintf(`[{"op":"replace","path":"/spec/command/0","value":%q}]`, command)
		_, err := actions.Patch(t.Context(), "greet", types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
		g.check(err)
	}
	for i := range 5 {
		name := fmt.Sprintf("late-%d", i)
		write("evil")
		g.createTaskRunAs(editor, newTaskRun(ns, name, p.task("greets")))
		g.waitUnderway(ns, name)
		write("echo")
		g.expectHeldBack(g.waitDone(ns, name), "StepAction")
	}
	if got := started.names(); len(got) != 1 || got[0] != "honest-pod" {
		t.Errorf("the Pods %q started, want honest-pod", got)
	}
}

// The record of what a resolver returned can be changed only by rights that editors do
// not have.
func TestGuards_EditorsCannotChangeRecords(t *testing.T) {
	e := newEnv(t)
	ns := e.enforced()
	editor := e.hostileIn(ns)
	for _, record := range []authorizationv1.ResourceAttributes{
		{Group: "resolution.tekton.dev", Resource: "resolutionrequests"},
		{Group: "resolution.tekton.dev", Resource: "resolutionrequests", Subresource: "status"},
		{Group: "tekton.dev", Resource: "taskruns", Subresource: "status"},
		{Group: "tekton.dev", Resource: "pipelineruns", Subresource: "status"},
		{Resource: "pods", Subresource: "status"},
		{Resource: "pods", Subresource: "binding"},
		{Group: "trustedresources.tekton.dev", Resource: "gates"},
	} {
		for _, verb := range []string{"create", "update", "patch", "release", "open"} {
			record.Namespace, record.Verb = ns, verb
			e.waitMay(hostile, false, record)
		}
	}
	_, err := editor.Tekton.TektonV1().TaskRuns(ns).Patch(t.Context(), "any", types.MergePatchType,
		[]byte(`{"status":{"podName":"forged"}}`), metav1.PatchOptions{}, "status")
	if err == nil || !strings.Contains(err.Error(), "cannot patch resource") {
		t.Errorf("an editor writes the status of a TaskRun: %v", orUnlimited(err))
	}
}
