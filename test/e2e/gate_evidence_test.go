// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tektonv1alpha1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A run is held because a Secret is missing. Meanwhile somebody writes to its Task, which
// the run names without a resolver: what Tekton used cannot be proven any more. A run
// through the resolver is not affected.
func TestGate_RefusesTaskWrittenWhileHeld(t *testing.T) {
	g := startGated(t)
	ns := g.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Create(t.Context(), &tektonv1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "no-secret"},
		Spec: tektonv1alpha1.VerificationPolicySpec{
			Resources: []tektonv1alpha1.ResourcePattern{{Pattern: ".*"}},
			Authorities: []tektonv1alpha1.Authority{{Name: "secret", Key: &tektonv1alpha1.KeyRef{
				SecretRef: &corev1.SecretReference{Name: "absent", Namespace: ns},
			}}},
			Mode: tektonv1alpha1.ModeWarn, // so that Tekton itself runs what a resolver fetched
		},
	}, metav1.CreateOptions{})
	g.check(err)
	g.signedTask(ns, "build")
	g.createTaskRun(ns, "warned", &v1.TaskRef{Name: "build"})
	g.expectSuccess(g.waitDone(ns, "warned")) // the policy warns, so the gate does not wait

	policies := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns)
	policy, err := policies.Get(t.Context(), "no-secret", metav1.GetOptions{})
	g.check(err)
	policy.Spec.Mode = tektonv1alpha1.ModeEnforce
	_, err = policies.Update(t.Context(), policy, metav1.UpdateOptions{})
	g.check(err)
	for _, name := range []string{"written", "untouched"} {
		g.signedTask(ns, "task-"+name)
		g.createTaskRun(ns, name, &v1.TaskRef{Name: "task-" + name})
	}
	for _, name := range []string{"written", "untouched"} {
		g.waitEvent(g.getTaskRun(ns, name), v1alpha1.ReasonRunHeld, "KeyUnavailable", "policy no-secret")
	}
	g.patchTask(ns, "task-written", `{"metadata":{"labels":{"any":"write"}}}`)
	g.createPolicies(ns, trusted)
	g.check(policies.Delete(t.Context(), "no-secret", metav1.DeleteOptions{}))
	g.expectSuccess(g.waitDone(ns, "untouched"))
	g.expectHeldBack(g.waitDone(ns, "written"), "ContentUnavailable", "may have been written to", "start the run again")
}

// After a restart nobody knows whether a local reference was written to since its run was
// created. A run through the resolver has the proof in its status.
func TestGate_RefusesLocalReferenceAfterRestart(t *testing.T) {
	g := startGated(t)
	ns := g.enforced()
	g.signedTask(ns, "build")
	g.check(g.controller.Stop(t.Context()))
	g.createTaskRun(ns, "by-name", &v1.TaskRef{Name: "build"})
	g.createTaskRun(ns, "by-resolver", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "build")})
	g.heldPod(ns, "by-name")
	g.heldPod(ns, "by-resolver")
	g.check(g.controller.Start(t.Context()))
	g.expectSuccess(g.waitDone(ns, "by-resolver"))
	g.expectHeldBack(g.waitDone(ns, "by-name"), "ContentUnavailable", "start the run again")
}
