// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/client"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// ringKey is a key with a Secret of its own, or a version of a key in a KMS.
type ringKey struct {
	name   string
	public crypto.PublicKey
	kms    *v1alpha1.KMSKey // nil for a key in a Secret
}

func (e *env) keyRings() *client.KeyRings {
	e.t.Helper()
	keyRings, err := client.NewKeyRings(cluster.Admin, harness.SystemNamespace)
	e.check(err)
	return keyRings
}

// newRingKey makes a key, and its Secret in the namespace of the controller.
func (e *env) newRingKey(name string) ringKey {
	e.t.Helper()
	data, public, err := fixtures.X509Secret()
	e.check(err)
	immutable := true
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "key-" + name}, Data: data, Immutable: &immutable}
	secrets := cluster.Kube.CoreV1().Secrets(harness.SystemNamespace)
	_, err = secrets.Create(e.t.Context(), secret, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error {
		return ignoreNotFound(secrets.Delete(cleanupContext(), secret.Name, metav1.DeleteOptions{}))
	})
	return ringKey{name: name, public: public}
}

func (k ringKey) spec() v1alpha1.RingKey {
	if k.kms != nil {
		return v1alpha1.RingKey{Name: k.name, KMS: k.kms}
	}
	return v1alpha1.RingKey{Name: k.name, X509: &v1alpha1.X509Key{Secret: "key-" + k.name}}
}

func (k ringKey) authority(e *env) tekton.Authority {
	e.t.Helper()
	return tekton.Authority{Name: "key-" + k.name, Key: &tekton.KeyRef{Data: k.pem(e), HashAlgorithm: "sha256"}}
}

// pem returns the public half.
func (k ringKey) pem(e *env) string {
	e.t.Helper()
	pem, err := cryptoutils.MarshalPublicKeyToPEM(k.public)
	e.check(err)
	return string(pem)
}

// createKeyRing creates a KeyRing until the test ends.
func (e *env) createKeyRing(name string, spec v1alpha1.KeyRingSpec) {
	e.t.Helper()
	_, err := e.keyRings().Create(e.t.Context(), &v1alpha1.KeyRing{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error { return e.keyRings().Delete(cleanupContext(), name, metav1.DeleteOptions{}) })
}

// changeKeyRing changes the spec of a KeyRing.
func (e *env) changeKeyRing(name string, change func(*v1alpha1.KeyRingSpec)) {
	e.t.Helper()
	e.eventually(soon, func() error {
		ring, err := e.keyRings().Get(e.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(&ring.Spec)
		_, err = e.keyRings().Update(e.t.Context(), ring, metav1.UpdateOptions{})
		return err
	})
}

// waitKeyRing waits until a KeyRing is in a state.
func (e *env) waitKeyRing(name string, within time.Duration, check func(*v1alpha1.KeyRingStatus) error) {
	e.t.Helper()
	e.eventually(within, func() error {
		ring, err := e.keyRings().Get(e.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := check(&ring.Status); err != nil {
			return fmt.Errorf("%w; the status is %+v", err, ring.Status)
		}
		return nil
	})
}

func isActive(key string) func(*v1alpha1.KeyRingStatus) error {
	return func(status *v1alpha1.KeyRingStatus) error {
		if status.Active != key {
			return fmt.Errorf("active key: got %q, want %q", status.Active, key)
		}
		return nil
	}
}

func hasState(key string, state v1alpha1.KeyState) func(*v1alpha1.KeyRingStatus) error {
	return func(status *v1alpha1.KeyRingStatus) error {
		if found := keyring.StatusOf(status, key); found == nil || found.State != state {
			return fmt.Errorf("key %q is not %s", key, state)
		}
		return nil
	}
}

func isBlocked(step keyring.Step, texts ...string) func(*v1alpha1.KeyRingStatus) error {
	return func(status *v1alpha1.KeyRingStatus) error {
		rotated := meta.FindStatusCondition(status.Conditions, v1alpha1.KeyRingRotated)
		if rotated == nil || rotated.Reason != string(step) || !containsAll(rotated.Message, texts) {
			return fmt.Errorf("the ring is not at step %s because of %q", step, texts)
		}
		return nil
	}
}

// Without a KeyRing that can be read, nothing is signed: another key may be active.
func TestKeyRing_SignsNothingWithoutAnActiveKey(t *testing.T) {
	e := newEnv(t)
	missing := v1alpha1.RingKey{Name: "missing", X509: &v1alpha1.X509Key{Secret: "no-such-secret"}}
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{missing}})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	created := e.createTask(newTask(ns, "waits"))
	e.waitEvent(created, v1alpha1.ReasonNoKey, "KeyRing default has no active key")
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isBlocked(keyring.Load, "no-such-secret"))
	if got := e.getTask(ns, "waits"); signature(got) != "" {
		t.Error("the Task is signed with a key of the signing secret")
	}
}

// The API server refuses KeyRings that make no sense.
func TestKeyRing_IsValidated(t *testing.T) {
	e := newEnv(t)
	good := v1alpha1.RingKey{Name: "k", X509: &v1alpha1.X509Key{Secret: "s"}}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"stage": "prod"}}
	for name, tc := range map[string]struct {
		ring     string
		selector *metav1.LabelSelector
		key      v1alpha1.RingKey
		says     string // empty: accepted
	}{
		"good":               {"default", nil, good, ""},
		"good with selector": {"prod", selector, good, ""},
		"no half":            {"default", nil, v1alpha1.RingKey{Name: "k"}, "needs x509, kms or publicKey"},
		"two halves":         {"default", nil, v1alpha1.RingKey{Name: "k", X509: good.X509, KMS: &v1alpha1.KMSKey{Ref: "hashivault://k", Version: "1"}}, "x509 or kms"},
		"not a name":         {"default", nil, v1alpha1.RingKey{Name: "K 1", X509: good.X509}, "name"},
		"no version":         {"default", nil, v1alpha1.RingKey{Name: "k", KMS: &v1alpha1.KMSKey{Ref: "hashivault://k", Version: "latest"}}, "version"},
		"Vault, any version": {"default", nil, v1alpha1.RingKey{Name: "k", KMS: &v1alpha1.KMSKey{Ref: "hashivault://k"}}, "needs a version"},
		"unknown reason":     {"default", nil, v1alpha1.RingKey{Name: "k", PublicKey: "p", Revoked: &v1alpha1.Revocation{Reason: "Because"}}, "reason"},
		"default selects":    {"default", selector, good, "has no namespaceSelector"},
		"other selects not":  {"prod", nil, good, "needs one"},
	} {
		t.Run(name, func(t *testing.T) {
			ring := &v1alpha1.KeyRing{ObjectMeta: metav1.ObjectMeta{Name: tc.ring}, Spec: v1alpha1.KeyRingSpec{NamespaceSelector: tc.selector, Keys: []v1alpha1.RingKey{tc.key}}}
			_, err := e.keyRings().Create(t.Context(), ring, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want an error with %q", err, tc.says)
			}
		})
	}
	revoked := good
	revoked.Revoked = &v1alpha1.Revocation{Reason: v1alpha1.RevokedUnspecified}
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{revoked}})
	ring, err := e.keyRings().Get(t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	ring.Spec.Keys[0] = good
	if _, err := e.keyRings().Update(t.Context(), ring, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "cannot be undone") {
		t.Errorf("a revocation was undone: %v", err)
	}
}

// injectKeys lets the controller maintain the keys in policies until the test ends.
func (e *env) injectKeys() {
	e.t.Helper()
	e.applyConfig("injection")
}

// applyConfig applies a directory of config/ until the test ends.
func (e *env) applyConfig(directory string) {
	e.t.Helper()
	manifests := filepath.Join(harness.Root(), "config", directory)
	_, err := cluster.RunKubectl(e.t.Context(), "", "apply", "-f", manifests)
	e.check(err)
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "-f", manifests)
		return err
	})
}

// injected makes a policy one that the controller maintains.
func (e *env) injected(policy *tekton.VerificationPolicy) *tekton.VerificationPolicy {
	e.t.Helper()
	policy.Annotations = map[string]string{v1alpha1.InjectKeysAnnotation: "true"}
	policy, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(policy.Namespace).Update(e.t.Context(), policy, metav1.UpdateOptions{})
	e.check(err)
	return policy
}

// waitAuthorities waits until a policy trusts these keys and no others.
func (e *env) waitAuthorities(policy *tekton.VerificationPolicy, want ...crypto.PublicKey) {
	e.t.Helper()
	wanted := make([]string, 0, len(want))
	for _, public := range want {
		pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
		e.check(err)
		wanted = append(wanted, string(pem))
	}
	e.eventually(soon, func() error {
		found, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(policy.Namespace).Get(e.t.Context(), policy.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var trusted []string
		for _, authority := range found.Spec.Authorities {
			trusted = append(trusted, authority.Key.Data)
		}
		if !slices.Equal(slices.Sorted(slices.Values(trusted)), slices.Sorted(slices.Values(wanted))) {
			return fmt.Errorf("policy %s trusts %d keys, want %d: %v", policy.Name, len(trusted), len(wanted), found.Spec.Authorities)
		}
		return nil
	})
}

// The keys of a ring come into the policies that ask for it, and everybody can read them.
func TestKeyRing_InjectsKeysIntoPolicies(t *testing.T) {
	e := newEnv(t)
	e.injectKeys()
	first, second, own := e.newRingKey("first"), e.newRingKey("second"), e.newRingKey("own")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	asking, other := e.injected(e.enforcePolicy(ns, own.authority(e))), e.enforcePolicy(ns, first.authority(e), second.authority(e))
	e.waitAuthorities(asking, own.public, first.public)

	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
	e.waitAuthorities(asking, own.public, first.public, second.public)
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("second"))
	e.waitAuthorities(other, first.public, second.public) // untouched

	published, err := e.as("somebody").Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), v1alpha1.TrustedKeysConfigMap, metav1.GetOptions{})
	e.check(err)
	for _, key := range []ringKey{first, second} {
		pem, err := cryptoutils.MarshalPublicKeyToPEM(key.public)
		e.check(err)
		if !strings.Contains(published.Data[v1alpha1.TrustedKeysBundle], string(pem)) || !strings.Contains(published.Data[v1alpha1.TrustedKeysIndex], key.name) {
			t.Errorf("ConfigMap %s does not have key %q", v1alpha1.TrustedKeysConfigMap, key.name)
		}
	}
}

// After a theft, nobody trusts the key any more before its resources are signed again.
func TestKeyRing_RevocationUntrustsFirst(t *testing.T) {
	for name, hold := range map[string]bool{"signed again": false, "held": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.injectKeys()
			stolen, standby := e.newRingKey("stolen"), e.newRingKey("standby")
			waiting := standby.spec()
			waiting.Standby = true
			e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{stolen.spec(), waiting}})
			e.controller = e.addReplica("controller")
			ns := e.namespace()
			created := e.createTask(newTask(ns, "signed"))
			e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("stolen"))
			e.public = stolen.public
			e.waitSigned(ns, "signed")
			policy := e.injected(e.enforcePolicy(ns, stolen.authority(e)))
			policy.Spec.Authorities = nil
			e.waitAuthorities(policy, stolen.public, stolen.public, standby.public)

			e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) {
				s.Keys[0].Revoked = &v1alpha1.Revocation{Reason: v1alpha1.RevokedKeyCompromise, Hold: hold}
				s.Keys[1].Standby = false
			})
			e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("standby"))
			e.waitAuthorities(policy, stolen.public, standby.public) // the first was written by hand
			e.public = standby.public
			if hold {
				e.waitEvent(created, v1alpha1.ReasonKeyRevoked)
				if harness.Verify(t.Context(), e.getTask(ns, "signed"), stolen.public) != nil {
					t.Error("the signature of the revoked key was replaced although the key is held")
				}
				return
			}
			e.waitSigned(ns, "signed")
		})
	}
}

// The service account of the controller cannot be used to make policies trust other keys.
func TestKeyRing_LimitsTheServiceAccount(t *testing.T) {
	e := newEnv(t)
	e.injectKeys()
	ns := e.namespace()
	key, foreign := e.newRingKey("ours"), e.newRingKey("foreign")
	asking, other := e.injected(e.enforcePolicy(ns, key.authority(e))), e.enforcePolicy(ns, key.authority(e))
	own := foreign.authority(e)
	own.Name = "keyring-0123456789ab"
	for name, tc := range map[string]struct {
		policy  *tekton.VerificationPolicy
		change  func(*tekton.VerificationPolicySpec)
		allowed bool
	}{
		"its own authority":    {asking, func(s *tekton.VerificationPolicySpec) { s.Authorities = append(s.Authorities, own) }, true},
		"another authority":    {asking, func(s *tekton.VerificationPolicySpec) { s.Authorities = append(s.Authorities, foreign.authority(e)) }, false},
		"less trust":           {asking, func(s *tekton.VerificationPolicySpec) { s.Authorities = []tekton.Authority{own} }, false},
		"another pattern":      {asking, func(s *tekton.VerificationPolicySpec) { s.Resources[0].Pattern = "nothing" }, false},
		"another mode":         {asking, func(s *tekton.VerificationPolicySpec) { s.Mode = tekton.ModeWarn }, false},
		"a policy of somebody": {other, func(s *tekton.VerificationPolicySpec) { s.Authorities = append(s.Authorities, own) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			changed := tc.policy.DeepCopy()
			tc.change(&changed.Spec)
			patch, err := json.Marshal(map[string]any{"spec": changed.Spec})
			e.check(err)
			e := e.sub(t)
			e.eventually(soon, func() error { // the API server needs a moment to use a new policy
				_, err := e.as(ownAccount).Tekton.TektonV1alpha1().VerificationPolicies(ns).
					Patch(t.Context(), changed.Name, types.MergePatchType, patch, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
				if (err == nil) != tc.allowed || err != nil && !apierrors.IsForbidden(err) {
					return fmt.Errorf("got %w, want allowed: %t", orUnlimited(err), tc.allowed)
				}
				return nil
			})
		})
	}
}

// A ring is a trust domain: what was signed in the namespaces of one is nothing in those of
// another.
func TestKeyRing_ServesTheNamespacesThatItSelects(t *testing.T) {
	e := newEnv(t)
	common, prod := e.newRingKey("common"), e.newRingKey("prod")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{common.spec()}})
	stage := func(value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"stage": value}}
	}
	e.createKeyRing("prod", v1alpha1.KeyRingSpec{NamespaceSelector: stage("prod"), Keys: []v1alpha1.RingKey{prod.spec()}})
	e.controller = e.addReplica("controller")
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("common"))
	e.waitKeyRing("prod", soon, isActive("prod"))
	plain, selected := e.namespace(), e.namespaceLabelled(map[string]string{v1alpha1.SignLabel: "true", "stage": "prod"})
	e.createTask(newTask(plain, "task"))
	e.createTask(newTask(selected, "task"))
	e.public = common.public
	e.waitSigned(plain, "task")
	e.public = prod.public
	e.waitSigned(selected, "task")

	e.changeKeyRing("prod", func(s *v1alpha1.KeyRingSpec) { s.NamespaceSelector = stage("none") })
	e.public = common.public
	e.waitSigned(selected, "task")

	// Two rings select the namespace: none of them signs there.
	e.changeKeyRing("prod", func(s *v1alpha1.KeyRingSpec) { s.NamespaceSelector = stage("prod") })
	e.createKeyRing("other", v1alpha1.KeyRingSpec{NamespaceSelector: stage("prod"), Keys: []v1alpha1.RingKey{e.newRingKey("other").spec()}})
	e.eventually(soon, func() error {
		return e.hasNoKey(e.createTask(newTask(selected, fmt.Sprintf("task-%d", time.Now().UnixNano()))), "several KeyRings select the namespace")
	})
}
