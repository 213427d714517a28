// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Without its rights the gate holds what it should hold, and releases nothing. The
// controller does everything else, and says what is missing.
func TestGate_NeedsItsRights(t *testing.T) {
	e := newEnv(t)
	e.configure(with(signAll, withProvenance))
	restore := e.withoutRightsForPods()
	e.controller = e.addReplica("controller")
	g := newGated(e)
	ns, other := g.enforced(), g.namespace()
	chains, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
	g.check(err)
	g.waitEvent(chains, v1alpha1.ReasonRightsMissing, "No Pod of a TaskRun is released", "get, list, watch, patch pods")
	g.signedTask(ns, "signed")
	g.createTaskRun(ns, "run", &v1.TaskRef{Name: "signed"})
	g.heldPod(ns, "run")

	g.createTask(newTask(other, "build", buildsImage))
	g.waitSigned(other, "build")
	g.createTaskRun(other, "run", &v1.TaskRef{Name: "build"})
	g.waitAttestation(other, "run", false, soon)

	g.heldPod(ns, "run")
	restore()
	g.eventually(afterGrant, func() error { return g.countHeld(ns, 0) })
	g.expectSuccess(g.waitDone(ns, "run"))
}

// withoutRightsForPods takes the rights for Pods from the controller until the test ends
// or restore is called.
func (e *env) withoutRightsForPods() (restore func()) {
	e.t.Helper()
	const name = "tekton-chains-runs"
	roles := cluster.Kube.RbacV1().ClusterRoles()
	role, err := roles.Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	rules := role.Rules
	set := func(rules []rbacv1.PolicyRule) error {
		current, err := roles.Get(cleanupContext(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		current.Rules = rules
		_, err = roles.Update(cleanupContext(), current, metav1.UpdateOptions{})
		return err
	}
	e.check(set(slices.DeleteFunc(slices.Clone(rules), func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "pods") })))
	e.cleanup(func() error { return set(rules) })
	return func() { e.check(set(rules)) }
}
