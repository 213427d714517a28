// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/cli"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func hasCondition(name string, status metav1.ConditionStatus, texts ...string) func(*v1alpha1.KeyRingStatus) error {
	return func(ring *v1alpha1.KeyRingStatus) error {
		found := meta.FindStatusCondition(ring.Conditions, name)
		if found == nil || found.Status != status || !containsAll(found.Message, texts) {
			return fmt.Errorf("condition %s is %+v, want %s with %q", name, found, status, texts)
		}
		return nil
	}
}

// all is true if all checks are.
func all(checks ...func(*v1alpha1.KeyRingStatus) error) func(*v1alpha1.KeyRingStatus) error {
	return func(status *v1alpha1.KeyRingStatus) error {
		for _, check := range checks {
			if err := check(status); err != nil {
				return err
			}
		}
		return nil
	}
}

// hasPolicies checks how many policies trust a key, and how many trust another key only.
func hasPolicies(key string, trusting, unready int64) func(*v1alpha1.KeyRingStatus) error {
	return func(status *v1alpha1.KeyRingStatus) error {
		found := keyring.StatusOf(status, key)
		if found == nil || found.Policies == nil || *found.Policies != trusting || found.Unready != unready {
			return fmt.Errorf("key %q is %+v, want %d policies and %d unready", key, found, trusting, unready)
		}
		return nil
	}
}

// controlTekton stops or starts Tekton's controller.
func (e *env) controlTekton(action string) {
	e.t.Helper()
	e.check(cluster.Control(e.t.Context(), action, harness.PartTektonController))
}

// The status shows that the target is trusted when it is, also while Tekton has not seen
// that, and claims neither before.
func TestKeyRing_ShowsTrustedAndSeenWhenTheyArePassed(t *testing.T) {
	const ring = v1alpha1.DefaultKeyRing
	e := newEnv(t)
	first, second := e.newRingKey("first"), e.newRingKey("second")
	e.createKeyRing(ring, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	e.waitKeyRing(ring, soon, isActive("first"))
	e.enforcePolicy(ns, first.authority(e), second.authority(e))
	old, legacy := e.enforcePolicy(ns, first.authority(e)), e.enforcePolicy(ns, first.authority(e))
	e.changeKeyRing(ring, func(s *v1alpha1.KeyRingSpec) {
		s.Keys = append(s.Keys, second.spec())
		s.Rotation.AcceptUnready = []v1alpha1.PolicyReference{{Namespace: ns, Policy: legacy.Name}}
	})
	e.waitKeyRing(ring, soon, all(isActive("first"),
		hasCondition(v1alpha1.KeyRingTrusted, metav1.ConditionFalse, `1 of 3 policies that trust another key trust key "second"`, "1 accepted unready: "+ns+"/"+legacy.Name, "not ready: "+ns+"/"+old.Name),
		hasCondition(v1alpha1.KeyRingSeen, metav1.ConditionUnknown, "no canary"),
		hasPolicies("first", 3, 0), hasPolicies("second", 1, 2)))
	if status := e.key(cli.OK, "status"); !strings.Contains(status, "1, 2 unready") {
		t.Errorf("got %s, want the number of policies", status)
	}

	e.controlTekton("stop")
	started := false
	e.cleanup(func() error {
		if started {
			return nil
		}
		return cluster.Control(cleanupContext(), "start", harness.PartTektonController)
	})
	old.Spec.Authorities = append(old.Spec.Authorities, second.authority(e))
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Update(t.Context(), old, metav1.UpdateOptions{})
	e.check(err)
	e.waitKeyRing(ring, 2*soon, all(isActive("first"),
		hasCondition(v1alpha1.KeyRingTrusted, metav1.ConditionTrue, `2 of 3 policies that trust another key trust key "second"; 1 accepted unready`),
		hasCondition(v1alpha1.KeyRingSeen, metav1.ConditionUnknown, "waits for Tekton's controller")))
	e.says(e.key(cli.Findings, "rotate", "--to", "second", "--wait=active", "--timeout", "3s"), "✓ Trusted    2 of 3 policies", "… Seen")

	e.controlTekton("start")
	started = true
	e.waitKeyRing(ring, 3*soon, all(isActive("second"),
		hasCondition(v1alpha1.KeyRingSeen, metav1.ConditionTrue, `verified a canary with a signature of key "second"`), hasPolicies("second", 2, 1)))
	e.says(e.key(cli.OK, "rotate", "--to", "second", "--wait=active", "--timeout", "1m"), "✓ Trusted", "✓ Seen", "✓ Active")
}

// After a revocation nobody asks which policies trust the key, so nothing is claimed.
func TestKeyRing_ClaimsNoTrustAfterARevocation(t *testing.T) {
	const ring = v1alpha1.DefaultKeyRing
	e := newEnv(t)
	stolen, next := e.newRingKey("stolen"), e.newRingKey("next")
	standby := next.spec()
	standby.Standby = true
	e.createKeyRing(ring, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{stolen.spec(), standby}})
	e.controller = e.addReplica("controller")
	e.enforcePolicy(e.namespace(), stolen.authority(e))
	e.waitKeyRing(ring, soon, all(isActive("stolen"), hasCondition(v1alpha1.KeyRingTrusted, metav1.ConditionTrue), hasPolicies("next", 0, 1)))
	e.changeKeyRing(ring, func(s *v1alpha1.KeyRingSpec) {
		s.Keys[0].Revoked = &v1alpha1.Revocation{Reason: v1alpha1.RevokedKeyCompromise}
		s.Keys[1].Standby = false
	})
	e.waitKeyRing(ring, 2*soon, all(isActive("next"), hasCondition(v1alpha1.KeyRingRotated, metav1.ConditionTrue),
		hasCondition(v1alpha1.KeyRingTrusted, metav1.ConditionUnknown, "is revoked"), hasCondition(v1alpha1.KeyRingSeen, metav1.ConditionTrue)))
}

// The status says whether a key of the ring also signs attestations.
func TestKeyRing_SaysWhetherAttestationsHaveAKeyOfTheirOwn(t *testing.T) {
	const ring = v1alpha1.DefaultKeyRing
	e := newEnv(t)
	e.says(e.key(cli.Failed, "status"), "Warning: without a KeyRing", "also sign Chains' attestations", "has no KeyRing")
	own := e.newRingKey("own")
	e.createKeyRing(ring, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{own.spec()}})
	e.controller = e.addReplica("controller")
	e.waitKeyRing(ring, soon, all(isActive("own"), hasCondition(v1alpha1.KeyRingAttestationKeySeparate, metav1.ConditionTrue)))
	if status := e.key(cli.OK, "status"); strings.Contains(status, "Warning") {
		t.Errorf("a warning although the keys differ: %s", status)
	}
	e.changeKeyRing(ring, func(s *v1alpha1.KeyRingSpec) {
		shared := v1alpha1.RingKey{Name: "shared", PublicKey: e.publicKeyPEM(), Standby: true}
		s.Keys = append(s.Keys, shared)
	})
	e.waitKeyRing(ring, soon, hasCondition(v1alpha1.KeyRingAttestationKeySeparate, metav1.ConditionFalse, `key "shared" also signs`))
	e.says(e.key(cli.OK, "status"), "Warning: KeyRing default", `key "shared" also signs Chains' attestations`)
}

// Policies should not trust the keys of a deleted ring. Auditors still find them.
func TestKeyRing_KeysOfADeletedRingAreNotTrusted(t *testing.T) {
	e := newEnv(t)
	kept, gone := e.newRingKey("kept"), e.newRingKey("gone")
	create := func(key ringKey) {
		t.Helper()
		_, err := e.keyRings().Create(t.Context(), &v1alpha1.KeyRing{
			ObjectMeta: metav1.ObjectMeta{Name: key.name},
			Spec: v1alpha1.KeyRingSpec{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"stage": key.name}},
				Keys:              []v1alpha1.RingKey{key.spec()},
			},
		}, metav1.CreateOptions{})
		e.check(err)
	}
	for _, key := range []ringKey{gone, kept} {
		e.removeKeyRing(key.name)
		create(key)
	}
	e.controller = e.addReplica("controller")
	trusts := func(want ...ringKey) {
		t.Helper()
		e.eventually(2*soon, func() error {
			found, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), v1alpha1.TrustedKeysConfigMap, metav1.GetOptions{})
			if err != nil {
				return err
			}
			bundle := ""
			for _, key := range want {
				bundle += key.authority(e).Key.Data
			}
			for _, key := range []ringKey{gone, kept} {
				if pem := key.authority(e).Key.Data; len(found.Data) == 0 || !strings.Contains(found.Data[v1alpha1.TrustedKeysIndex], key.name) || !hasFile(found.Data, pem) {
					return fmt.Errorf("key %q is not published any more: %v", key.name, found.Data)
				}
			}
			if got := found.Data[v1alpha1.TrustedKeysBundle]; got != bundle {
				return fmt.Errorf("the bundle is %q, want the keys of %v", got, want)
			}
			return nil
		})
	}
	trusts(gone, kept)
	e.check(e.keyRings().Delete(t.Context(), "gone", metav1.DeleteOptions{}))
	trusts(kept)
	e.check(e.keyRings().Delete(t.Context(), "kept", metav1.DeleteOptions{}))
	trusts() // no ring is left
	create(kept)
	trusts(kept)
}

func hasFile(data map[string]string, content string) bool {
	for name, found := range data {
		if strings.HasSuffix(name, ".pub") && found == content {
			return true
		}
	}
	return false
}
