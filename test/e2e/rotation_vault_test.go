// SPDX-License-Identifier: Apache-2.0

//go:build kms && rotation

package e2e

import (
	"fmt"
	"testing"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// outage is how long Vault is away.
const outage = time.Minute

// vaultRing is a ring with two versions of a key of its own, in a namespace of its own.
type vaultRing struct {
	name, namespace, ref string
	first, second        ringKey // the versions
	policy               *tekton.VerificationPolicy
}

// newVaultRing creates a ring whose first version signs, and a policy that trusts this
// version, or both.
func (e *env) newVaultRing(name string, trustsBoth bool) *vaultRing {
	e.t.Helper()
	key := fmt.Sprintf("%s-%d", name, time.Now().UnixNano())
	ref, err := vault.CreateKey(e.t.Context(), key, harness.VaultKeyType)
	e.check(err)
	r := &vaultRing{name: name, ref: ref, first: e.vaultKey(ref, "1")}
	e.check(vault.RotateKey(e.t.Context(), key))
	r.second = e.vaultKey(ref, "2")
	r.namespace = e.namespaceLabelled(map[string]string{v1alpha1.SignLabel: "true", "ring": name})
	e.createKeyRing(name, v1alpha1.KeyRingSpec{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"ring": name}},
		Keys:              []v1alpha1.RingKey{r.first.spec()},
		Rotation:          v1alpha1.RotationSpec{QuietPeriod: &metav1.Duration{}},
	})
	e.waitKeyRing(name, soon, isActive("v1"))
	trusted := []tekton.Authority{r.first.authority(e)}
	if trustsBoth {
		trusted = append(trusted, r.second.authority(e))
	}
	r.policy = e.enforcePolicy(r.namespace, trusted...)
	e.createTask(newTask(r.namespace, "before"))
	e.waitSignedBy(r, r.first)
	return r
}

func (e *env) waitSignedBy(r *vaultRing, key ringKey, tasks ...string) {
	e.t.Helper()
	e.public = key.public
	for _, task := range append(tasks, "before") {
		e.waitSigned(r.namespace, task)
	}
}

func (e *env) addVersion(r *vaultRing) {
	e.t.Helper()
	e.changeKeyRing(r.name, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, r.second.spec()) })
}

// Vault is away for a minute while four rings are in different phases of a rotation: a new
// version is to be loaded, is loaded, there is no rotation, an old version drains. The
// active versions stay, runs go on, and each rotation ends when Vault is back.
func TestRotation_WaitsForVault(t *testing.T) {
	for name, vaultIs := range map[string]vaultOutage{
		"sealed": {func() error { return vault.Seal(t.Context()) }, func() error { return vault.Unseal(cleanupContext()) }},
		"hangs":  {vault.Pause, vault.Resume},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := startWithKMS(t, "own-"+name, nil)
			load, pending := e.newVaultRing("load", true), e.newVaultRing("pending", false)
			active, drains := e.newVaultRing("active", false), e.newVaultRing("drains", true)
			e.addVersion(pending)
			e.waitKeyRing(pending.name, soon, isBlocked(keyring.Activating, pending.namespace+"/"+pending.policy.Name))
			e.addVersion(drains)
			e.waitKeyRing(drains.name, soon, isActive("v2"))
			e.waitSignedBy(drains, drains.second)

			e.check(vaultIs.away())
			e.cleanup(vaultIs.back) // does nothing after the call below
			e.addVersion(load)
			pending.policy.Spec.Authorities = append(pending.policy.Spec.Authorities, pending.second.authority(e))
			_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(pending.namespace).Update(t.Context(), pending.policy, metav1.UpdateOptions{})
			e.check(err)
			e.expectNoChange(map[*vaultRing]string{load: "v1", pending: "v1", active: "v1", drains: "v2"})
			e.check(vaultIs.back())

			late := harness.TimeLimit(4 * time.Minute) // a call to a Vault that hung is abandoned after a minute
			for _, r := range []*vaultRing{load, pending} {
				e.waitKeyRing(r.name, late, isActive("v2"))
				e.waitSignedBy(r, r.second, "during")
			}
			e.waitSignedBy(active, active.first, "during")
			e.waitSignedBy(drains, drains.second, "during")
			e.waitKeyRing(drains.name, late, hasState("v1", v1alpha1.KeyRetired))
			for _, r := range []*vaultRing{load, pending, active, drains} {
				e.runTasks(r.namespace, "before", "during")
			}
		})
	}
}

// vaultOutage makes Vault go away and come back.
type vaultOutage struct{ away, back func() error }

// expectNoChange checks until the end of the outage that the versions with these names stay
// active, that runs go on, and that nothing gets a signature.
func (e *env) expectNoChange(active map[*vaultRing]string) {
	e.t.Helper()
	for r := range active {
		e.createTask(newTask(r.namespace, "during"))
	}
	for began := time.Now(); time.Since(began) < outage; {
		for r, version := range active {
			e.runTasks(r.namespace, "before")
			ring, err := e.keyRings().Get(e.t.Context(), r.name, metav1.GetOptions{})
			e.check(err)
			e.check(isActive(version)(&ring.Status))
		}
	}
	for r := range active {
		if signature(e.getTask(r.namespace, "during")) != "" {
			e.t.Errorf("ring %s: a Task got a signature while Vault was away", r.name)
		}
	}
}

// Vault does not use the version that signs any more (min_decryption_version). What it has
// signed runs on, and the way out is the next version.
func TestRotation_VaultDropsTheActiveVersion(t *testing.T) {
	e, _ := startWithKMS(t, "own-dropped", nil)
	r := e.newVaultRing("dropped", true)
	e.check(vault.ConfigureKey(t.Context(), r.ref[len("hashivault://"):], map[string]any{"min_decryption_version": 2}))
	waits := e.createTask(newTask(r.namespace, "waits"))
	e.waitEvent(waits, v1alpha1.ReasonSignerFailed, "min_decryption_version")
	e.waitKeyRing(r.name, soon, isActive("v1"))
	e.runTasks(r.namespace, "before")
	e.addVersion(r)
	e.waitKeyRing(r.name, soon, isActive("v2"))
	e.waitSignedBy(r, r.second, "waits")
	e.runTasks(r.namespace, "before", "waits")
}
