// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// auditedPods returns the requests for Pods by the controller's service account, from
// the position in the audit log on.
func (e *env) auditedPods(from int64) (requests []*auditv1.Event) {
	e.t.Helper()
	for entry, err := range cluster.AuditEvents(from) {
		e.check(err)
		if entry.ObjectRef != nil && entry.ObjectRef.Resource == "pods" && strings.HasSuffix(entry.User.Username, ":"+harness.ServiceAccount) {
			requests = append(requests, entry)
		}
	}
	return requests
}

// auditedReleases counts the successful patches of Pods in a namespace, by name.
func (e *env) auditedReleases(namespace string) map[string]int {
	e.t.Helper()
	counts := map[string]int{}
	for _, entry := range e.auditedPods(0) {
		if entry.Verb == "patch" && entry.ObjectRef.Namespace == namespace && entry.ResponseStatus != nil && entry.ResponseStatus.Code == 200 {
			counts[entry.ObjectRef.Name]++
		}
	}
	return counts
}

// Without the label, Pods are neither held nor watched nor written to, although the
// policy of the API server is installed. The controller looks once for Pods that it may
// have to release.
func TestGate_IsOffWithoutLabel(t *testing.T) {
	e := newEnv(t)
	e.configure(withProvenance)
	e.installGate()
	// A controller has to remove the finalizers of Chains, so that the namespaces of earlier
	// tests can be deleted.
	cleaner := e.addReplica("cleaner")
	e.waitNoNamespaceWithLabel()
	e.check(cleaner.Stop(t.Context()))
	log, err := os.Stat(cluster.AuditLog())
	e.check(err)
	e.controller = e.addReplica("controller")
	ns := e.namespaceLabelled(nil)
	m := newMatrix(e)
	e.createTask(newTask(ns, "unsigned"))
	m.createTaskRun(ns, "run", &v1.TaskRef{Name: "unsigned"})
	e.expectSuccess(e.waitDone(ns, "run"))
	_, summary := e.verificationStatus(e.waitAttestation(ns, "run", false, soon))
	if summary.Gate.Decision != "NOT_HELD" {
		t.Errorf("the gate has decision %+v, want NOT_HELD", summary.Gate)
	}
	for _, entry := range e.auditedPods(log.Size()) {
		if entry.Verb != "list" {
			t.Errorf("the controller made a request for Pods: %s %s", entry.Verb, entry.RequestURI)
		}
	}
	// The counterpart, without which the test above proves nothing.
	g := &gated{matrix: m}
	enforced := g.enforced()
	g.signedTask(enforced, "signed")
	g.createTaskRun(enforced, "run", &v1.TaskRef{Name: "signed"})
	g.expectSuccess(g.waitDone(enforced, "run"))
	verbs := map[string]int{}
	for _, entry := range e.auditedPods(log.Size()) {
		verbs[entry.Verb]++
	}
	if verbs["patch"] != 1 || verbs["watch"] == 0 {
		t.Errorf("the controller made the requests %v for Pods, want one patch and a watch", verbs)
	}
}

// waitNoNamespaceWithLabel waits until the namespaces of earlier tests are gone.
func (e *env) waitNoNamespaceWithLabel() {
	e.t.Helper()
	e.eventually(2*soon, func() error {
		found, err := cluster.Kube.CoreV1().Namespaces().List(e.t.Context(), metav1.ListOptions{LabelSelector: v1alpha1.VerifyLabel})
		if err != nil {
			return err
		}
		for _, ns := range found.Items {
			if ns.Name != v1alpha1.GateProbeNamespace {
				return fmt.Errorf("namespace %s has the label %s", ns.Name, v1alpha1.VerifyLabel)
			}
		}
		return nil
	})
}

// A namespace with the label "warn" holds nothing. The same verdict is an Event.
func TestGate_WarnsOnly(t *testing.T) {
	g := startGated(t)
	ns := g.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyWarn})
	g.createPolicies(ns, trusted)
	g.signedTask(ns, "signed")
	g.createTask(newTask(ns, "unsigned"))
	for _, name := range []string{"unsigned", "signed"} {
		g.createTaskRun(ns, name, &v1.TaskRef{Name: name})
		g.expectSuccess(g.waitDone(ns, name))
	}
	g.waitEvent(g.getTaskRun(ns, "unsigned"), v1alpha1.ReasonReleasedUnverified, "Would be refused", "Task "+ns+"/unsigned", "Unsigned")
	g.waitMetric(`trustedresources_gate_decisions_total{decision="would-refuse"} 1`)
	g.waitMetric(`trustedresources_gate_decisions_total{decision="would-release"} 1`)
}

// A policy in mode warn lets a run through, with an Event.
func TestGate_ReleasesUnderWarnPolicy(t *testing.T) {
	g := startGated(t)
	ns := g.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	g.createPolicies(ns, warned)
	g.createTask(newTask(ns, "unsigned"))
	g.createTaskRun(ns, "run", &v1.TaskRef{Name: "unsigned"})
	g.expectSuccess(g.waitDone(ns, "run"))
	g.waitEvent(g.getTaskRun(ns, "run"), v1alpha1.ReasonReleasedUnverified, "in spite of", "Unsigned", "policy warn")
}

// An administrator opens the gate by removing the label, or by another value. Runs that
// wait start, and an Event and the attestation say that nobody verified them.
func TestGate_OpensWithoutLabel(t *testing.T) {
	for name, value := range map[string]string{"removed": "null", "warn": `"` + v1alpha1.VerifyWarn + `"`} {
		t.Run(name, func(t *testing.T) { startGated(t).expectOpened(value) })
	}
}

// expectOpened gives the label of a namespace another value while no controller runs.
func (g *gated) expectOpened(value string) {
	g.t.Helper()
	ns := g.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	g.createPolicies(ns, trusted)
	g.check(g.controller.Stop(g.t.Context()))
	g.createTask(newTask(ns, "unsigned"))
	g.createTaskRun(ns, "before", &v1.TaskRef{Name: "unsigned"})
	g.heldPod(ns, "before")
	_, err := cluster.Kube.CoreV1().Namespaces().Patch(g.t.Context(), ns, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"`+v1alpha1.VerifyLabel+`":`+value+`}}}`), metav1.PatchOptions{})
	g.check(err)
	g.check(g.controller.Start(g.t.Context())) // no namespace has the label when it starts
	g.expectSuccess(g.waitDone(ns, "before"))
	g.waitEvent(g.getTaskRun(ns, "before"), v1alpha1.ReasonReleasedUnverified, "without a verification", v1alpha1.VerifyLabel)
	_, summary := g.verificationStatus(g.waitAttestation(ns, "before", false, soon))
	if summary.Gate.Decision != "OPENED" || summary.Result == "PASSED" {
		g.t.Errorf("the summary is %+v, want OPENED and not PASSED", summary)
	}
}

// A held Pod that loses the label by which Pods are watched is decided nevertheless.
func TestGate_DecidesPodWithoutTektonsLabel(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.check(g.controller.Stop(t.Context()))
	g.signedTask(ns, "signed")
	g.createStepAction(ns, "action", false)
	g.signedTask(ns, "unsigned", withStepAction(&v1.Ref{ // which Tekton does not verify
		ResolverRef: harness.ClusterRef(resource.StepAction, ns, "action"),
	}))
	started := g.recordStarted(ns)
	for _, name := range []string{"signed", "unsigned"} {
		g.createTaskRun(ns, name, &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, name)})
		pod := g.heldPod(ns, name)
		_, err := cluster.Kube.CoreV1().Pods(ns).Patch(t.Context(), pod.Name, types.MergePatchType,
			[]byte(`{"metadata":{"labels":{"tekton.dev/taskRun":null}}}`), metav1.PatchOptions{})
		g.check(err)
	}
	g.check(g.controller.Start(t.Context()))
	g.expectSuccess(g.waitDone(ns, "signed"))
	g.expectHeldBack(g.waitDone(ns, "unsigned"), "Unsigned")
	if got := started.names(); !slices.Equal(got, []string{"signed-pod"}) {
		t.Errorf("the Pods %q started, want signed-pod only", got)
	}
}

// A policy that is changed between the release and the attestation shows: the attestation
// names both states.
func TestGate_AttestationNamesPolicyOfRelease(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.signedTask(ns, "signed", buildsImage)
	g.createTaskRun(ns, "run", &v1.TaskRef{Name: "signed"}, lastingFor(5*time.Second))
	g.eventually(soon, func() error { return g.countHeld(ns, 0) })
	g.waitMetric(`trustedresources_gate_decisions_total{decision="released"} 1`)
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Patch(t.Context(), "trust", types.MergePatchType,
		[]byte(`{"spec":{"resources":[{"pattern":".+"}]}}`), metav1.PatchOptions{})
	g.check(err)
	verifications, summary := g.verificationStatus(g.waitAttestation(ns, "run", false, soon))
	if len(summary.Gate.Policies) != 1 || len(verifications) != 1 || verifications[0].Result != "PASSED" {
		t.Fatalf("got %+v and verifications %+v, want one policy each", summary.Gate, verifications)
	}
	at := summary.Gate.Policies[0].PolicyRevision
	if later := verifications[0].PolicyRevision; at.UID != later.UID || at.SpecSHA256 == later.SpecSHA256 || at.ResourceVersion == later.ResourceVersion {
		t.Errorf("the gate has policy revision %+v, the attestation %+v; want two states of one policy", at, later)
	}
}
