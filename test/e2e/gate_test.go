// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A TaskRun of a signed Task starts under the gate. One of an unsigned Task never
// starts, and says why: Tekton itself does not verify a local reference.
func TestGate_StartsOnlyWhatIsVerified(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	started := g.recordStarted(ns)
	g.signedTask(ns, "signed")
	g.createTask(newTask(ns, "unsigned"))
	for name, ref := range map[string]*v1.TaskRef{
		"by-name":     {Name: "signed"},
		"by-resolver": {ResolverRef: harness.ClusterRef(resource.Task, ns, "signed")},
		"refused":     {Name: "unsigned"},
	} {
		g.createTaskRun(ns, name, ref)
	}
	for _, name := range []string{"by-name", "by-resolver"} {
		g.expectSuccess(g.waitDone(ns, name))
	}
	refused := g.waitDone(ns, "refused")
	g.expectHeldBack(refused, "Task "+ns+"/unsigned", "Unsigned", "policy trust", "sign the resource")
	g.waitEvent(refused, v1alpha1.ReasonRunRefused, "unsigned")
	want := []string{"by-name-pod", "by-resolver-pod"}
	if got := started.names(); !slices.Equal(got, want) {
		t.Errorf("the Pods %q started, want %q", got, want)
	}
}
