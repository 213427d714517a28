// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
		_, summary := g.verificationStatus(g.waitAttestation(ns, name, false, soon))
		if summary.Gate.Decision != "RELEASED" || summary.Result != "PASSED" {
			t.Errorf("%s: the summary is %+v, want it released and PASSED", name, summary)
		}
	}
	refused := g.waitDone(ns, "refused")
	g.expectHeldBack(refused, "Task "+ns+"/unsigned", "Unsigned", "policy trust", "sign the resource")
	g.waitEvent(refused, v1alpha1.ReasonRunRefused, "unsigned")
	g.waitMetric(`trustedresources_gate_decisions_total{decision="refused"} 1`)
	_, summary := g.verificationStatus(g.waitAttestation(ns, "refused", false, soon))
	if summary.Gate.Decision != "REFUSED" || summary.Result != "FAILED" {
		t.Errorf("the summary of the refused run is %+v, want it REFUSED and FAILED", summary)
	}
	if got, want := started.names(), []string{"by-name-pod", "by-resolver-pod"}; !slices.Equal(got, want) {
		t.Errorf("the Pods %q started, want %q", got, want)
	}
}

// source is one way to give a TaskRun its content.
type source struct {
	name    string
	ref     *v1.TaskRef
	inline  *v1.TaskSpec
	refused []string // texts in the message; nil if the run may start
}

// Every resource behind a run must be verified, whatever refers to it.
func TestGate_VerifiesEverySource(t *testing.T) {
	g := startGated(t)
	ns, other := g.enforced(), g.namespaceLabelled(nil)
	started := g.recordStarted(ns)
	g.createStepAction(ns, "signed", true)
	g.createStepAction(ns, "unsigned", false)
	g.createStepAction(ns, "changed", true)
	_, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Patch(t.Context(), "changed", types.MergePatchType, []byte(`{"spec":{"image":"evil"}}`), metav1.PatchOptions{})
	g.check(err)
	g.signedTask(other, "elsewhere")
	g.createTask(newTask(other, "elsewhere-unsigned"))
	local := func(name string) *v1.Ref { return &v1.Ref{Name: name} }
	resolved := func(name string) *v1.Ref {
		return &v1.Ref{ResolverRef: harness.ClusterRef(resource.StepAction, ns, name)}
	}
	for name, ref := range map[string]*v1.Ref{
		"action-by-name": local("signed"), "action-by-resolver": resolved("signed"),
		"changed-action-by-name": local("changed"), "changed-action-by-resolver": resolved("changed"),
		"unsigned-action-by-name": local("unsigned"), "unsigned-action-by-resolver": resolved("unsigned"),
	} {
		g.signedTask(ns, name, withStepAction(ref))
	}
	bundle, err := g.registry.PushBundle(t.Context(), newTask("", "bundled"))
	g.check(err)
	inNamespace := func(namespace, name string) *v1.TaskRef {
		return &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, name)}
	}
	sources := []source{
		{name: "action-by-name", ref: &v1.TaskRef{Name: "action-by-name"}},
		{name: "action-by-resolver", ref: inNamespace(ns, "action-by-resolver")},
		{name: "elsewhere", ref: inNamespace(other, "elsewhere")},
		{name: "unsigned-action-by-name", ref: &v1.TaskRef{Name: "unsigned-action-by-name"}, refused: []string{"StepAction " + ns + "/unsigned", "Unsigned"}},
		{name: "unsigned-action-by-resolver", ref: inNamespace(ns, "unsigned-action-by-resolver"), refused: []string{"StepAction " + ns + "/unsigned", "Unsigned"}},
		{name: "changed-action-by-name", ref: &v1.TaskRef{Name: "changed-action-by-name"}, refused: []string{"StepAction " + ns + "/changed", "SignatureInvalid"}},
		{name: "changed-action-by-resolver", ref: inNamespace(ns, "changed-action-by-resolver"), refused: []string{"StepAction " + ns + "/changed", "SignatureInvalid"}},
		{name: "inline", inline: &newTask("", "").Spec, refused: []string{"Inline", "trustedresources.gate.inline"}},
	}
	g.runSources(ns, sources)
	// A policy that matches the other namespace and the registry no more.
	g.check(cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Delete(t.Context(), "trust", metav1.DeleteOptions{}))
	g.createPolicy(ns, "own", "/apis/.*/namespaces/"+ns+"/.*", "enforce", g.signer)
	unmatched := []source{
		{name: "unmatched-bundle", ref: &v1.TaskRef{ResolverRef: harness.BundleRef(bundle, resource.Task, "bundled")}, refused: []string{"NoPolicy", "trustedresources.gate.unmatched"}},
		{name: "unmatched-namespace", ref: inNamespace(other, "elsewhere-unsigned"), refused: []string{"NoPolicy"}},
	}
	g.runSources(ns, unmatched)
	// The settings let both through.
	g.configure(with(withProvenance, map[string]string{"trustedresources.gate.unmatched": "allow", "trustedresources.gate.inline": "allow"}))
	g.runSources(ns, []source{
		{name: "allowed-bundle", ref: unmatched[0].ref}, {name: "allowed-namespace", ref: unmatched[1].ref},
		{name: "allowed-inline", inline: &newTask("", "").Spec},
	})
	for _, pod := range started.names() {
		if strings.Contains(pod, "unsigned") || strings.HasPrefix(pod, "changed") || strings.HasPrefix(pod, "unmatched") || pod == "inline-pod" {
			t.Errorf("Pod %s started", pod)
		}
	}
}

// runSources runs all sources at once and checks how they end.
func (g *gated) runSources(namespace string, sources []source) {
	g.t.Helper()
	for _, s := range sources {
		g.createTaskRun(namespace, s.name, s.ref, func(run *v1.TaskRun) { run.Spec.TaskSpec = s.inline })
	}
	for _, s := range sources {
		if run := g.waitDone(namespace, s.name); s.refused != nil {
			g.expectHeldBack(run, s.refused...)
		} else {
			g.expectSuccess(run)
		}
	}
}

// withStepAction makes a StepAction the only step of a Task.
func withStepAction(ref *v1.Ref) func(*v1.Task) {
	return func(t *v1.Task) {
		greeting := v1.Params{{Name: "greeting", Value: *v1.NewStructuredValues("hello")}}
		t.Spec.Steps = []v1.Step{{Name: "greet", Ref: ref, Params: greeting}}
	}
}

// Tekton v1.15.0 runs an unsigned Task under an enforce policy if one of its StepActions
// comes from a resolver: it stores the spec before it looks at the verdict on the Task.
// The first part of the test fails as soon as Tekton does not do that any more.
func TestGate_ClosesTheBypassByStepActions(t *testing.T) {
	const runs = 20
	g := startGated(t)
	open := g.namespaceLabelled(nil)
	g.createPolicies(open, trusted)
	closed := g.enforced()
	recorded := map[string]*started{}
	for _, ns := range []string{open, closed} {
		recorded[ns] = g.recordStarted(ns)
		g.createStepAction(ns, "signed", true)
		g.createTask(newTask(ns, "unsigned", withStepAction(&v1.Ref{ResolverRef: harness.ClusterRef(resource.StepAction, ns, "signed")})))
		for i := range runs {
			g.createTaskRun(ns, fmt.Sprintf("run-%d", i), &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "unsigned")})
		}
	}
	for _, ns := range []string{open, closed} {
		for i := range runs {
			if run := g.waitDone(ns, fmt.Sprintf("run-%d", i)); ns == closed && run.IsSuccessful() {
				t.Errorf("%s succeeded", run.Name)
			}
		}
	}
	without, with := len(recorded[open].names()), len(recorded[closed].names())
	t.Logf("of %d runs of an unsigned Task, %d started without the gate, and %d with it", runs, without, with)
	if without == 0 {
		t.Error("no run started without the gate: Tekton has closed the bypass, so this test proves nothing any more")
	}
	if with != 0 {
		t.Errorf("the Pods %q started in spite of the gate", recorded[closed].names())
	}
}
