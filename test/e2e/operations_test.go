// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// team is the namespace in docs/operations.md.
const team = "team-a"

// Each block of commands of docs/operations.md does what the page says. The page is
// executed from top to bottom, with an outage: the controller does not run.
func TestOperations_WorkBlockByBlock(t *testing.T) {
	e := startController(t)
	e.configure(withProvenance)
	e.installAdmission()
	g := &gated{newMatrix(e)}
	e.createTeam()
	g.createPolicies(team, trusted)
	other := e.enforced()
	e.executePage("operations.md", g.operations(other))
}

func (g *gated) operations(other string) []pageStep {
	const isIt, works, open, who, leaves, closeAgain = "Is it the gate?", "Does the controller work?", "Open the gate in an emergency",
		"Who may open it", "What that leaves behind", "Close the gate again"
	contains := func(texts ...string) func(string) {
		return func(output string) { g.expectText(output, texts...) }
	}
	return []pageStep{
		{isIt, first(g.breakDown), contains("waits-pod", v1alpha1.SchedulingGate)},
		{isIt, nil, contains("RunRefused", "Refused by trustedresources.tekton.dev")},
		{works, nil, contains("GateInForce")},
		{works, nil, contains("only Tekton creates Pods of TaskRuns")},
		{open, nil, func(string) { g.expectLabel(team, v1alpha1.VerifyWarn) }},
		{open, nil, func(string) { g.expectSuccess(g.waitDone(team, "waits")) }},
		{open, nil, func(string) { g.expectLabel(other, v1alpha1.VerifyWarn) }},
		{open, nil, contains("deleted")},
		{who, nil, func(string) { g.expectMayOpenOnly(other) }},
		{leaves, nil, contains(team, other)},
		{closeAgain, first(g.forgePod), contains("forged-pod")},
		{closeAgain, nil, func(string) { g.waitGuarded() }},
		{closeAgain, nil, nil},
	}
}

func (e *env) createTeam() {
	e.t.Helper()
	namespaces := cluster.Kube.CoreV1().Namespaces()
	e.eventually(2*soon, func() error { // the test of another page has a namespace of this name
		_, err := namespaces.Create(e.t.Context(), &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: team, Labels: map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce}},
		}, metav1.CreateOptions{})
		return err
	})
	e.cleanup(func() error { return namespaces.Delete(cleanupContext(), team, metav1.DeleteOptions{}) })
}

// breakDown lets the gate refuse a TaskRun, stops the controller, and creates a TaskRun
// that waits.
func (g *gated) breakDown() {
	g.t.Helper()
	settings, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(g.t.Context(), harness.ConfigMap, metav1.GetOptions{})
	g.check(err)
	g.waitEvent(settings, v1alpha1.ReasonGateInForce)
	p := place{g, team}
	run := newTaskRun(team, "refused", nil)
	run.Spec.TaskSpec = &newTask(team, "").Spec
	g.createTaskRunAs(cluster, run)
	refused := g.waitDone(team, "refused")
	g.waitEvent(refused, v1alpha1.ReasonRunRefused)
	g.check(g.controller.Stop(g.t.Context()))
	g.signedTask(team, "plain")
	g.createTaskRunAs(cluster, newTaskRun(team, "waits", p.task("plain")))
	g.heldPod(team, "waits")
}

// forgePod creates a Pod that Tekton would use for a TaskRun.
func (g *gated) forgePod() {
	g.t.Helper()
	_, err := cluster.Kube.CoreV1().Pods(team).Create(g.t.Context(), plainPod(team, "forged-pod"), metav1.CreateOptions{})
	g.check(err)
}

func (e *env) expectLabel(namespace, want string) {
	e.t.Helper()
	ns, err := cluster.Kube.CoreV1().Namespaces().Get(e.t.Context(), namespace, metav1.GetOptions{})
	e.check(err)
	if got := ns.Labels[v1alpha1.VerifyLabel]; got != want {
		e.t.Errorf("namespace %s has the label %s: %q, want %q", namespace, v1alpha1.VerifyLabel, got, want)
	}
	probe, err := cluster.Kube.CoreV1().Namespaces().Get(e.t.Context(), v1alpha1.GateProbeNamespace, metav1.GetOptions{})
	e.check(err)
	if got := probe.Labels[v1alpha1.VerifyLabel]; got != v1alpha1.VerifyEnforce {
		e.t.Errorf("the namespace for tries has the label %q", got)
	}
}

// expectMayOpenOnly requires that the user of the page may open the gate of the team, and
// not that of another namespace.
func (e *env) expectMayOpenOnly(other string) {
	e.t.Helper()
	const user = "on-call@example.com"
	may := authorizationv1.ResourceAttributes{Group: v1alpha1.Group, Resource: "gates", Verb: "open", Name: team}
	e.waitMay(user, true, may)
	may.Name = other
	e.waitMay(user, false, may)
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "clusterrole,clusterrolebinding", "open-gate-of-"+team)
		return err
	})
}

// waitGuarded waits until the namespace of the page is guarded again.
func (e *env) waitGuarded() {
	e.t.Helper()
	e.eventually(soon, func() error {
		_, err := cluster.Kube.CoreV1().Pods(team).Create(e.t.Context(), plainPod(team, "any-pod"), dryRunCreate)
		if err == nil || !strings.Contains(err.Error(), guardOfPods) {
			return fmt.Errorf("a Pod with Tekton's name: %w", orUnlimited(err))
		}
		return nil
	})
}

// bashIn runs commands of a page as an administrator would, and returns their output.
func (e *env) bashIn(dir, script string) string {
	e.t.Helper()
	cmd := exec.CommandContext(e.t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+cluster.Binaries.Dir+":"+os.Getenv("PATH"), "KUBECONFIG="+cluster.Kubeconfig(), "AUDIT_LOG="+cluster.AuditLog())
	out, err := cmd.CombinedOutput()
	if err != nil {
		e.t.Fatalf("%v of\n%s\n%s", err, script, out)
	}
	return string(out)
}
