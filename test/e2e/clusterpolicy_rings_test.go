// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

// A rotation waits for a policy that names the older key, and runs start in each phase of the
// rotation under a policy that names the KeyRing.
func TestClusterPolicy_FollowsTheKeyRing(t *testing.T) {
	e := newEnv(t)
	e.configure(with(withProvenance, signAll))
	first, second := e.newRingKey("first"), e.newRingKey("second")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
	e.controller = e.addReplica("controller")
	e.cleanup(func() error { return cluster.RemoveAdmission(cleanupContext()) })
	e.check(cluster.InstallAdmission(t.Context()))
	r := newRuled(e)
	ns := r.namespaceLabelled(map[string]string{everywhere: "ring", v1alpha1.SignLabel: "true"})
	fixed := r.cvp("fixed", "nowhere", tierOverride, 1, modeEnforce, "*")
	fixed.Spec.Authorities = authority(v1alpha1.PolicyAuthority{Data: first.pem(e)})
	r.put(fixed)
	follows := r.cvp("follows", "ring", tierOverride, 1, modeEnforce, "*")
	follows.Spec.Authorities = authority(v1alpha1.PolicyAuthority{KeyRing: v1alpha1.KeyRingActive})
	r.put(follows)
	r.waitReady(fixed.Name)
	r.waitReady(follows.Name)
	run := func(name string) {
		t.Helper()
		r.createTask(newTask(ns, name))
		r.eventually(soon, func() error {
			if signature(r.getTask(ns, name)) == "" {
				return fmt.Errorf("Task %s is not signed", name)
			}
			return nil
		})
		r.createTaskRun(ns, name, &v1.TaskRef{Name: name})
		r.expectSuccess(r.waitDone(ns, name))
	}
	run("before")
	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isBlocked(keyring.Activating, "ClusterVerificationPolicy fixed"))
	run("while-it-waits")
	patch := fmt.Appendf(nil, `{"spec":{"authorities":[{"name":"key","data":%q},{"name":"next","data":%q}]}}`, first.pem(e), second.pem(e))
	_, err := r.policies.Patch(t.Context(), fixed.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	r.check(err)
	e.waitKeyRing(v1alpha1.DefaultKeyRing, 2*soon, isActive("second"))
	run("afterwards")
	other := r.group("ring") // where nothing is signed
	r.signedBy(&r.otherSigner, newTask(other, "stranger"))
	r.createTaskRun(other, "stranger", &v1.TaskRef{Name: "stranger"})
	r.expectHeldBack(r.waitDone(other, "stranger"), "SignatureInvalid", follows.Name)
}
