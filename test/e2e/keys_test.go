// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	trv1alpha1 "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func badSecrets(e *env) map[string]struct {
	secret fixtures.Secret
	says   []string
} {
	e.t.Helper()
	good, _, err := fixtures.CosignSecret()
	e.check(err)
	rsa, err := fixtures.RSASecret()
	e.check(err)
	ed25519, err := fixtures.Ed25519CosignSecret()
	e.check(err)
	return map[string]struct {
		secret fixtures.Secret
		says   []string
	}{
		"empty":          {fixtures.Secret{}, []string{"found neither x509.pem nor cosign.key"}},
		"garbage":        {fixtures.Secret{fixtures.X509Key: []byte("garbage")}, []string{"x509.pem", "not PEM"}},
		"wrong-password": {fixtures.Secret{fixtures.CosignKey: good[fixtures.CosignKey], fixtures.CosignPassword: []byte("guess")}, []string{"cosign.key", "decrypt"}},
		"rsa":            {rsa, []string{"x509.pem", "rsa", "expected ECDSA"}},
		"ed25519":        {ed25519, []string{"cosign.key", "ed25519"}},
	}
}

func TestSigningKey_IsLoadedOnceValid(t *testing.T) {
	for name, tc := range badSecrets(newEnv(t)) {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			ns := e.namespace()
			e.check(tc.secret.Write(e.secretsDir))
			e.controller = e.addReplica("controller")
			e.waitLogged(e.controller, append(tc.says, "Signing key not usable")...)
			created := e.createTask(newTask(ns, "waits"))
			e.waitEvent(created, trv1alpha1.ReasonNoKey, tc.says...)
			if got := e.getTask(ns, "waits"); signature(got) != "" {
				t.Error("the Task is signed although the key is invalid")
			}
			good, public, err := fixtures.X509Secret()
			e.check(err)
			e.check(good.Write(e.secretsDir))
			e.public = public
			e.waitSigned(ns, "waits") // without a restart
		})
	}
}

func TestSigningKey_KeepsLastGoodWhenNewOneIsInvalid(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.waitSigned(ns, "before")
	for name, tc := range badSecrets(e) {
		t.Run(name, func(t *testing.T) {
			e := e.sub(t)
			e.check(tc.secret.Write(e.secretsDir))
			e.waitLogged(e.controller, append(tc.says, "the last good one stays in use")...)
			e.createTask(newTask(ns, name))
			e.waitSigned(ns, name) // with the key that was valid before
		})
	}
}

func TestSigningKey_SignsAgainAfterRotation(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	created := e.createTask(newTask(ns, "rotated"))
	e.waitSigned(ns, "rotated")

	next, public, err := fixtures.X509Secret()
	e.check(err)
	next["retired.pub"] = []byte(e.publicKeyPEM())
	e.enforcePolicy(ns, v1alpha1.Authority{Name: "old", Key: &v1alpha1.KeyRef{Data: e.publicKeyPEM()}}) // a policy may still trust the old key
	old := *e
	e.check(next.Write(e.secretsDir))
	e.public = public
	e.waitSigned(ns, "rotated")
	e.waitEvent(created, trv1alpha1.ReasonSignedAgain, "not active any more")

	// After a restart the controller knows the old key only from the secret.
	e.check(e.controller.Stop(t.Context()))
	back := *e
	third, thirdPublic, err := fixtures.X509Secret()
	e.check(err)
	if third["retired.pub"], err = cryptoutils.MarshalPublicKeyToPEM(back.public); err != nil {
		t.Fatal(err)
	}
	e.check(third.Write(e.secretsDir))
	e.enforcePolicy(ns, v1alpha1.Authority{Name: "second", Key: &v1alpha1.KeyRef{Data: back.publicKeyPEM()}})
	e.check(e.controller.Start(t.Context()))
	e.public = thirdPublic
	e.waitSigned(ns, "rotated")
	if harness.Verify(t.Context(), e.getTask(ns, "rotated"), old.public) == nil {
		t.Error("the first key still verifies the Task")
	}
}

// A key is ours as long as the secret has it. Without the old public key in the
// secret, the signature of the old key is that of another signer, before a restart as
// after it.
func TestSigningKey_IsForgottenWithoutItsPublicKey(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.createTask(newTask(ns, "trusted"))
	before := e.waitSigned(ns, "trusted")
	e.enforcePolicy(ns, v1alpha1.Authority{Name: "old", Key: &v1alpha1.KeyRef{Data: e.publicKeyPEM()}})
	old := e.publicKeyPEM()

	next, public, err := fixtures.X509Secret()
	e.check(err)
	e.check(next.Write(e.secretsDir))
	e.public = public
	e.waitLogged(e.controller, "Key ring loaded", e.keyID(), `"retired":[]`)
	for _, when := range []string{"running", "restarted"} {
		if when == "restarted" {
			e.check(e.controller.Stop(t.Context()))
			e.check(e.controller.Start(t.Context()))
		}
		e.createTask(newTask(ns, when))
		e.waitSigned(ns, when)
		e.labelNamespace(ns, "")
		e.labelNamespace(ns, "true") // all resources are looked at again
		e.expectNoWrites(ns, 2*time.Second)
		if got := e.getTask(ns, "trusted"); signature(got) != signature(before) {
			t.Errorf("%s: the signature of a key that the secret does not have was replaced", when)
		}
	}

	next["retired.pub"] = []byte(old)
	e.check(next.Write(e.secretsDir))
	e.waitSigned(ns, "trusted")
	e.waitEvent(before, trv1alpha1.ReasonSignedAgain, "not active any more")
}

// publicKeyPEM returns the public key of e in the form for policies.
func (e *env) publicKeyPEM() string {
	e.t.Helper()
	pem, err := cryptoutils.MarshalPublicKeyToPEM(e.public)
	e.check(err)
	return string(pem)
}

func (e *env) enforcePolicy(namespace string, authorities ...v1alpha1.Authority) *v1alpha1.VerificationPolicy {
	e.t.Helper()
	policy, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(namespace).Create(e.t.Context(), &v1alpha1.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "policy-"},
		Spec: v1alpha1.VerificationPolicySpec{
			Resources: []v1alpha1.ResourcePattern{{Pattern: ".*"}}, Authorities: authorities, Mode: v1alpha1.ModeEnforce,
		},
	}, metav1.CreateOptions{})
	e.check(err)
	return policy
}

// foreignTask returns a Task "theirs" that another key has signed, and an env with that key.
func (e *env) foreignTask(namespace string) (*v1.Task, *env) {
	e.t.Helper()
	key, public := e.newKey()

	// The signature covers the Task with the defaults that the API server sets.
	dry, err := cluster.Tekton.TektonV1().Tasks(namespace).Create(e.t.Context(), newTask(namespace, "theirs"),
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	e.check(err)
	checksum, err := dry.Checksum()
	e.check(err)
	sig, err := key.Sign(e.t.Context(), checksum)
	e.check(err)
	t := newTask(namespace, "theirs", func(t *v1.Task) {
		t.Annotations = map[string]string{trustedresources.SignatureAnnotation: resource.EncodeSignature(sig)}
	})
	return t, &env{t: e.t, public: public}
}

// The controller keeps a signature of another key if a policy trusts that key, and as
// long as it cannot know whether a policy trusts the key.
func TestForeignSignature_IsKeptWhileItMayBeTrusted(t *testing.T) {
	e := startController(t)

	for name, authority := range map[string]func(e *env, ns, pem string) v1alpha1.Authority{
		"inline": func(_ *env, _, pem string) v1alpha1.Authority {
			return v1alpha1.Authority{Name: "them", Key: &v1alpha1.KeyRef{Data: pem}}
		},
		"secret": func(e *env, ns, pem string) v1alpha1.Authority {
			_, err := cluster.Kube.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: "their-key"}, Data: map[string][]byte{"key": []byte(pem)},
			}, metav1.CreateOptions{})
			e.check(err)
			return v1alpha1.Authority{Name: "them", Key: &v1alpha1.KeyRef{SecretRef: &corev1.SecretReference{Namespace: ns, Name: "their-key"}}}
		},
	} {
		t.Run("trusted key "+name+" is kept", func(t *testing.T) {
			e := e.sub(t)
			ns := e.namespace()
			theirs, them := e.foreignTask(ns)
			// The policy exists before the Task. Upstream code panics on the first
			// authority, which has no key.
			e.enforcePolicy(ns, v1alpha1.Authority{Name: "broken"}, authority(e, ns, them.publicKeyPEM()))
			e.createTask(theirs)
			e.createTask(newTask(ns, "after"))
			e.waitSigned(ns, "after")
			if got := e.getTask(ns, "theirs"); signature(got) != signature(theirs) {
				t.Error("the signature of the other key was overwritten")
			}
			e.check(harness.Verify(t.Context(), e.getTask(ns, "theirs"), them.public))
			e.patchTask(ns, "theirs", `{"spec":{"description":"changed"}}`)
			e.waitSigned(ns, "theirs") // no key verifies the changed Task any more
		})
	}

	t.Run("untrusted key is replaced", func(t *testing.T) {
		e := e.sub(t)
		ns := e.namespace()
		theirs, _ := e.foreignTask(ns)
		e.createTask(theirs)
		e.waitSigned(ns, "theirs")
	})

	t.Run("unreadable authority keeps signature", func(t *testing.T) {
		e := e.sub(t)
		ns := e.namespace()
		theirs, them := e.foreignTask(ns)
		e.enforcePolicy(ns, v1alpha1.Authority{Name: "them", Key: &v1alpha1.KeyRef{SecretRef: &corev1.SecretReference{Namespace: ns, Name: "missing"}}})
		created := e.createTask(theirs)
		e.waitEvent(created, trv1alpha1.ReasonUndecided, "missing", "policy-")
		if got := e.getTask(ns, "theirs"); signature(got) != signature(theirs) {
			t.Error("the signature of the other key was overwritten")
		}
		_, err := cluster.Kube.CoreV1().Secrets(ns).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "missing"}, Data: map[string][]byte{"key": []byte(them.publicKeyPEM())},
		}, metav1.CreateOptions{})
		e.check(err)
		e.check(harness.Verify(t.Context(), e.getTask(ns, "theirs"), them.public))
	})
}
