// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/cli"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// key runs tkn-trust key as the administrator, and returns what it prints to stdout and
// stderr.
func (e *env) key(wantCode int, args ...string) string {
	e.t.Helper()
	return e.keyAs(cluster.Kubeconfig(), wantCode, args...)
}

func (e *env) keyAs(kubeconfig string, wantCode int, args ...string) string {
	e.t.Helper()
	stdout, stderr := e.runKey(kubeconfig, wantCode, args...)
	return stdout + stderr
}

func (e *env) runKey(kubeconfig string, wantCode int, args ...string) (stdout, stderr string) {
	e.t.Helper()
	return e.callKey(kubeconfig, wantCode, func(c *cli.Command, args []string) int { return c.Run(e.t.Context(), args) }, args...)
}

// callKey is runKey with a function that runs the command.
func (e *env) callKey(kubeconfig string, wantCode int, run func(*cli.Command, []string) int, args ...string) (stdout, stderr string) {
	e.t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"key", "--kubeconfig", kubeconfig}, args...)
	if got := run(cli.New(&out, &errs), args); got != wantCode {
		e.t.Fatalf("%s: exit code %d, want %d:\n%s%s", strings.Join(args, " "), got, wantCode, &out, &errs)
	}
	return out.String(), errs.String()
}

// says fails the test unless a text has all parts.
func (e *env) says(text string, parts ...string) {
	e.t.Helper()
	if !containsAll(text, parts) {
		e.t.Fatalf("got:\n%s\nwant all of %q", text, parts)
	}
}

func (e *env) secrets() corev1client.SecretInterface {
	return cluster.Kube.CoreV1().Secrets(harness.SystemNamespace)
}

// secret creates a Secret in the controller's namespace until the test ends.
func (e *env) secret(name string, data map[string][]byte) {
	e.t.Helper()
	_, err := e.secrets().Create(e.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{})
	e.check(err)
	e.removeSecret(name)
}

// fillSigningSecret puts a key into the Secret signing-secrets until the test ends.
func (e *env) fillSigningSecret(data map[string][]byte) {
	e.t.Helper()
	set := func(ctx context.Context, data map[string][]byte) error {
		secret, err := e.secrets().Get(ctx, "signing-secrets", metav1.GetOptions{})
		if err == nil {
			secret.Data = data
			_, err = e.secrets().Update(ctx, secret, metav1.UpdateOptions{})
		}
		return err
	}
	e.check(set(e.t.Context(), data))
	e.cleanup(func() error { return set(cleanupContext(), nil) })
}

// removeSecret deletes a Secret when the test ends.
func (e *env) removeSecret(name string) {
	e.t.Helper()
	e.cleanup(func() error {
		return ignoreNotFound(e.secrets().Delete(cleanupContext(), name, metav1.DeleteOptions{}))
	})
}

// removeKeyRing deletes a KeyRing when the test ends.
func (e *env) removeKeyRing(name string) {
	e.t.Helper()
	e.cleanup(func() error {
		return ignoreNotFound(e.keyRings().Delete(cleanupContext(), name, metav1.DeleteOptions{}))
	})
}

// exported returns the public half of a key of a KeyRing as an auditor gets it.
func (e *env) exported(name string) crypto.PublicKey {
	e.t.Helper()
	stdout, _ := e.runKey(cluster.Kubeconfig(), cli.OK, "export", "--format", "json")
	var entries []v1alpha1.PublishedKey
	e.check(json.Unmarshal([]byte(stdout), &entries))
	for _, entry := range entries {
		if entry.Name == name {
			public, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(entry.PublicKey))
			e.check(err)
			return public
		}
	}
	e.t.Fatalf("no key %q in %s", name, stdout)
	return nil
}

// What a user does in the life of a key, with the controller behind it: the key that signed
// before there was a KeyRing, a rotation that a policy blocks, the way back, a theft.
func TestKeyCommands_LeadThroughTheLifeOfAKey(t *testing.T) {
	e := newEnv(t)
	present, presentPublic, err := fixtures.CosignSecret()
	e.check(err)
	e.check(present.Write(e.secretsDir))
	e.public = presentPublic
	e.fillSigningSecret(present)
	e.removeKeyRing(v1alpha1.DefaultKeyRing)
	e.removeSecret("key-default-2027")
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	e.createTask(newTask(ns, "signed"))
	e.waitSigned(ns, "signed")
	policy := e.enforcePolicy(ns, ringKey{name: "present", public: presentPublic}.authority(e))

	e.says(e.key(cli.Failed, "status"), "has no KeyRing", "tkn-trust key generate")
	e.says(e.key(cli.OK, "generate", "--name", "2027"), "Secret tekton-chains/key-default-2027 has the new key", "KeyRing default is created", "standby")
	e.says(e.key(cli.OK, "generate", "--name", "2027"), "already")
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("signing-secrets"))
	e.says(e.key(cli.OK, "status"), "signing-secrets", "active", "2027", "pending", "Warning", "also signs Chains' attestations")
	e.waitSigned(ns, "signed") // with the present key

	e.says(e.key(cli.Findings, "rotate", "--to", "2027", "--wait=active", "--timeout", "8s"),
		"✓ Loaded", "… Trusted", ns+"/"+policy.Name, "not done after 8s")
	e.says(e.key(cli.OK, "rollback", "--wait=active"), `Key "signing-secrets" is the target`, "✓ Active")

	next := ringKey{name: "2027", public: e.exported("2027")}
	policy.Spec.Authorities = append(policy.Spec.Authorities, next.authority(e))
	_, err = cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Update(t.Context(), policy, metav1.UpdateOptions{})
	e.check(err)
	rotate := []string{"rotate", "--to", "2027", "--wait=active", "--timeout", "1m"}
	interrupted, interrupt := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer interrupt()
	e.callKey(cluster.Kubeconfig(), cli.Failed, func(c *cli.Command, args []string) int { return c.Run(interrupted, args) }, rotate...)
	e.says(e.key(cli.OK, rotate...), "✓ Loaded", "✓ Trusted", "✓ Seen", "✓ Active")
	e.says(e.key(cli.OK, rotate...), "already", "✓ Active")
	e.public = next.public
	e.waitSigned(ns, "signed")
	e.says(e.key(cli.Findings, "rotate", "--to", "2027", "--wait", "--timeout", "8s"), "✓ Signed", "1/1", "Drained")

	e.says(e.key(cli.OK, "rollback", "--wait=active", "--timeout", "1m"), `Key "signing-secrets" is the target`, "✓ Active")
	e.says(e.key(cli.OK, "rollback"), `Key "signing-secrets" is the target of KeyRing default already`)
	e.public = presentPublic
	e.waitSigned(ns, "signed")
	e.key(cli.OK, rotate...)
	e.public = next.public
	e.waitSigned(ns, "signed")

	e.says(e.key(cli.Failed, "revoke", "2027", "--reason", "KeyCompromise"), "cannot be undone", `Key "signing-secrets" signs instead`, "--yes")
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, hasState("2027", v1alpha1.KeyActive))
	e.says(e.key(cli.OK, "revoke", "2027", "--reason", "KeyCompromise", "--since", "2026-01-02T03:04:05Z", "--yes", "--wait", "--timeout", "1m"),
		"✓ Revoked", "✓ Untrusted", "✓ Active     signing-secrets", "✓ Signed")
	e.public = presentPublic
	e.waitSigned(ns, "signed")
	e.says(e.key(cli.Failed, "rotate", "--to", "2027"), "it is revoked")
	e.says(e.key(cli.OK, "retire", "2027", "--delete-secret"), "only the public half", "is deleted")
	e.says(e.key(cli.OK, "retire", "2027", "--delete-secret"), "already")
	if _, err := e.secrets().Get(t.Context(), "key-default-2027", metav1.GetOptions{}); ignoreNotFound(err) != nil || err == nil {
		t.Errorf("the Secret of the revoked key: got %v, want that it does not exist", err)
	}
	ring, err := e.keyRings().Get(t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	if key := keyring.SpecOf(ring, "2027"); key.X509 != nil || key.PublicKey == "" || key.Revoked == nil {
		t.Errorf("the revoked key in the spec is %+v, want the public half only", key)
	}
}
