// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// ringKey is a key with a Secret of its own.
type ringKey struct {
	name   string
	public crypto.PublicKey
}

func (e *env) keyRings() rings.Clients {
	e.t.Helper()
	client, err := rings.NewClient(cluster.Admin, harness.SystemNamespace)
	e.check(err)
	return client
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
	e.cleanup(func() error { return secrets.Delete(cleanupContext(), secret.Name, metav1.DeleteOptions{}) })
	return ringKey{name, public}
}

func (k ringKey) spec() v1alpha1.RingKey {
	return v1alpha1.RingKey{Name: k.name, X509: &v1alpha1.X509Key{Secret: "key-" + k.name}}
}

func (k ringKey) authority(e *env) tekton.Authority {
	e.t.Helper()
	pem, err := cryptoutils.MarshalPublicKeyToPEM(k.public)
	e.check(err)
	return tekton.Authority{Name: "key-" + k.name, Key: &tekton.KeyRef{Data: string(pem), HashAlgorithm: "sha256"}}
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

// A key becomes active when every policy that trusts the old key trusts the new one, and
// the old key is retired when nothing needs it. No run is refused meanwhile.
func TestKeyRing_RotatesWithoutARefusedRun(t *testing.T) {
	e := newEnv(t)
	e.configure(with(signAll, withProvenance))
	first, second := e.newRingKey("first"), e.newRingKey("second")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{
		Keys:     []v1alpha1.RingKey{first.spec()},
		Rotation: v1alpha1.RotationSpec{QuietPeriod: &metav1.Duration{}},
	})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	e.createTask(newTask(ns, "rotated"))
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("first"))
	e.public = first.public
	e.waitSigned(ns, "rotated")
	policy := e.enforcePolicy(ns, first.authority(e))
	stop := e.keepRunning(ns, "rotated")

	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isBlocked(keyring.Activating, ns+"/"+policy.Name))
	e.waitSigned(ns, "rotated") // still with the first key

	policy.Spec.Authorities = append(policy.Spec.Authorities, second.authority(e))
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Update(t.Context(), policy, metav1.UpdateOptions{})
	e.check(err)
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("second"))
	e.public = second.public
	e.waitSigned(ns, "rotated")
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, hasState("first", v1alpha1.KeyRetiring))
	e.waitKeyRing(v1alpha1.DefaultKeyRing, harness.TimeLimit(4*time.Minute), hasState("first", v1alpha1.KeyRetired))
	stop()
}

// keepRunning starts a run of a Task every second. The returned function ends that, and
// fails the test if Tekton has refused one.
func (e *env) keepRunning(namespace, task string) (stop func()) {
	ctx, cancel := context.WithCancel(e.t.Context())
	refused, runs := make(chan string, 1), 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for ; ctx.Err() == nil; runs++ {
			run, err := cluster.RunTask(ctx, namespace, task, nil, soon)
			if err == nil && !run.IsSuccessful() && ctx.Err() == nil {
				select {
				case refused <- fmt.Sprintf("run %s: %v", run.Name, run.Status.Conditions):
				default:
				}
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() {
		e.t.Helper()
		cancel()
		<-done
		select {
		case text := <-refused:
			e.t.Errorf("of %d runs, one failed: %s", runs, text)
		default:
			e.t.Logf("%d runs, none failed", runs)
		}
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
	for name, tc := range map[string]struct {
		key  v1alpha1.RingKey
		says string
	}{
		"no half":          {v1alpha1.RingKey{Name: "k"}, "needs x509, kms or publicKey"},
		"two halves":       {v1alpha1.RingKey{Name: "k", X509: &v1alpha1.X509Key{Secret: "s"}, KMS: &v1alpha1.KMSKey{Ref: "hashivault://k", Version: "1"}}, "x509 or kms"},
		"not a name":       {v1alpha1.RingKey{Name: "K 1", X509: &v1alpha1.X509Key{Secret: "s"}}, "name"},
		"no version":       {v1alpha1.RingKey{Name: "k", KMS: &v1alpha1.KMSKey{Ref: "hashivault://k", Version: "latest"}}, "version"},
		"unknown a reason": {v1alpha1.RingKey{Name: "k", PublicKey: "p", Revoked: &v1alpha1.Revocation{Reason: "Because"}}, "reason"},
	} {
		t.Run(name, func(t *testing.T) {
			ring := &v1alpha1.KeyRing{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultKeyRing}, Spec: v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{tc.key}}}
			_, err := e.keyRings().Create(t.Context(), ring, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want an error with %q", err, tc.says)
			}
		})
	}
}
