// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Backups drop the status. Without it, the key that was active becomes active again: the
// newest that every policy accepts.
func TestKeyRing_FindsTheActiveKeyWithoutItsStatus(t *testing.T) {
	e := newEnv(t)
	first, second := e.newRingKey("first"), e.newRingKey("second")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	e.createTask(newTask(ns, "kept"))
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("first"))
	e.public = first.public
	e.waitSigned(ns, "kept")
	policy := e.enforcePolicy(ns, first.authority(e))
	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })

	e.wipeStatus()
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("first")) // the policy does not trust the second
	policy.Spec.Authorities = append(policy.Spec.Authorities, second.authority(e))
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Update(t.Context(), policy, metav1.UpdateOptions{})
	e.check(err)
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("second"))
	e.wipeStatus()
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("second"))
	e.public = second.public
	e.waitSigned(ns, "kept")
}

// The private half of the key that signed is lost. A policy that trusts this key alone blocks
// the next key nevertheless, and so does a lost key of which nothing is known.
func TestKeyRing_WaitsForPoliciesOfALostKey(t *testing.T) {
	const ring = v1alpha1.DefaultKeyRing
	e := newEnv(t)
	lost, next := e.newRingKey("lost"), e.newRingKey("next")
	e.createKeyRing(ring, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{lost.spec()}})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	e.createTask(newTask(ns, "kept"))
	e.waitKeyRing(ring, soon, isActive("lost"))
	e.public = lost.public
	e.waitSigned(ns, "kept")
	policy := e.enforcePolicy(ns, lost.authority(e))
	e.check(cluster.Kube.CoreV1().Secrets(harness.SystemNamespace).Delete(t.Context(), lost.spec().X509.Secret, metav1.DeleteOptions{}))
	e.check(e.controller.Kill(t.Context())) // the next process never has the key
	e.check(e.controller.Start(t.Context()))

	blocked := isBlocked(keyring.Activating, "add the key to them", ns+"/"+policy.Name)
	e.changeKeyRing(ring, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, next.spec()) })
	e.waitKeyRing(ring, soon, all(isActive("lost"), blocked))
	e.runTasks(ns, "kept")
	e.wipeStatus()
	e.waitKeyRing(ring, soon, all(isActive(""), isBlocked(keyring.Activating, "public half is not: lost", "revoke the key")))
	e.changeKeyRing(ring, func(s *v1alpha1.KeyRingSpec) { s.Keys[0].PublicKey = lost.pem(e) })
	e.waitKeyRing(ring, soon, all(isActive(""), blocked))

	policy.Spec.Authorities = append(policy.Spec.Authorities, next.authority(e))
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Update(t.Context(), policy, metav1.UpdateOptions{})
	e.check(err)
	e.waitKeyRing(ring, soon, isActive("next"))
	e.public = next.public
	e.waitSigned(ns, "kept")
	e.runTasks(ns, "kept")
}

// wipeStatus removes the status of the default ring.
func (e *env) wipeStatus() {
	e.t.Helper()
	_, err := cluster.RunKubectl(e.t.Context(), "", "-n", harness.SystemNamespace, "patch", "keyring", v1alpha1.DefaultKeyRing, "--subresource", "status",
		"--type", "json", "-p", `[{"op":"remove","path":"/status"}]`)
	e.check(err)
}

// Each change of the target is followed by the end of the leader. The ring converges, and
// one key at a time is active.
func TestKeyRing_ConvergesWhenLeadersAreKilled(t *testing.T) {
	e := newEnv(t)
	e.injectKeys()
	first, second := e.newRingKey("first"), e.newRingKey("second")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec(), second.spec()}})
	replicas := []*harness.Controller{e.addReplica("one"), e.addReplica("two")}
	e.controller = replicas[0]
	ns := e.namespace()
	e.createTask(newTask(ns, "signed"))
	e.waitKeyRing(v1alpha1.DefaultKeyRing, afterFailover, isActive("second"))
	e.injected(e.enforcePolicy(ns, first.authority(e), second.authority(e)))
	for round := range 4 {
		back := round%2 == 0
		e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys[1].Standby = back })
		killed := replicas[round%2]
		e.check(killed.Kill(t.Context()))
		want := second
		if back {
			want = first
		}
		e.waitKeyRing(v1alpha1.DefaultKeyRing, afterFailover, isActive(want.name))
		e.public = want.public
		e.waitSigned(ns, "signed")
		e.check(killed.Start(t.Context()))
	}
}

// A replica that cannot read the KeyRings may have missed that another key is active, so
// it signs nothing any more.
func TestKeyRing_SignsNothingWithoutAReadOfTheRings(t *testing.T) {
	e := newEnv(t)
	first := e.newRingKey("first")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("first"))
	e.public = first.public
	e.waitSigned(ns, "before")

	roles := cluster.Kube.RbacV1().Roles(harness.SystemNamespace)
	role, err := roles.Get(t.Context(), harness.ServiceAccount, metav1.GetOptions{})
	e.check(err)
	without := role.DeepCopy()
	without.Rules = nil
	for _, rule := range role.Rules {
		if rule.Resources[0] != "keyrings" {
			without.Rules = append(without.Rules, rule)
		}
	}
	without, err = roles.Update(t.Context(), without, metav1.UpdateOptions{})
	e.check(err)
	restore := func(rules []rbacv1.PolicyRule) error {
		without.Rules = rules
		without, err = roles.Update(cleanupContext(), without, metav1.UpdateOptions{})
		return err
	}
	restored := false
	e.cleanup(func() error {
		if restored {
			return nil
		}
		return restore(role.Rules)
	})
	e.eventually(harness.TimeLimit(rings.Fence+time.Minute), func() error {
		name := fmt.Sprintf("probe-%d", time.Now().UnixNano())
		created := e.createTask(newTask(ns, name))
		return e.hasNoKey(created, "could not be read")
	})
	e.check(restore(role.Rules))
	restored = true
	e.createTask(newTask(ns, "after"))
	e.waitSigned(ns, "after")
}

// hasNoKey waits for a short time for the Event that an object has no key to sign it.
func (e *env) hasNoKey(obj metav1.Object, text string) error {
	return harness.Eventually(e.t.Context(), 3*time.Second, func(ctx context.Context) error {
		events, err := cluster.Kube.CoreV1().Events(obj.GetNamespace()).List(ctx, metav1.ListOptions{
			FieldSelector: "reason=" + v1alpha1.ReasonNoKey + ",involvedObject.name=" + obj.GetName(),
		})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			if containsAll(event.Message, []string{text}) {
				return nil
			}
		}
		return fmt.Errorf("no Event %s on %s", v1alpha1.ReasonNoKey, obj.GetName())
	})
}
