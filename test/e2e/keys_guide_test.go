// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Each block of docs/keys.md is executed, in the order of the page.
func TestKeysGuide_WorksBlockByBlock(t *testing.T) {
	e := newEnv(t)
	e.configure(withoutRegistry)
	const ns, name = "team-a", v1alpha1.DefaultKeyRing
	secret, public, err := fixtures.X509Secret()
	e.check(err)
	e.fillSigningSecret(secret)
	e.check(secret.Write(e.secretsDir)) // the kubelet mounts the Secret
	e.public = public
	e.controller = e.addReplica("controller")
	e.eventually(2*soon, func() error { // the test of another page has a namespace of this name
		_, err := cluster.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: ns, Labels: map[string]string{v1alpha1.SignLabel: "true"}},
		}, metav1.CreateOptions{})
		return err
	})
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "namespace", ns)
		_, deleted := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "-f", filepath.Join(harness.Root(), "config", "injection"))
		return errors.Join(err, deleted)
	})
	for _, made := range []string{"key-default-2027", "key-default-2028"} {
		e.removeSecret(made)
	}
	e.cleanup(func() error {
		return ignoreNotFound(e.keyRings().Delete(cleanupContext(), name, metav1.DeleteOptions{}))
	})
	policies := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns)
	_, err = policies.Create(t.Context(), &tekton.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "signed-in-this-cluster"},
		Spec: tekton.VerificationPolicySpec{
			Resources:   []tekton.ResourcePattern{{Pattern: ".*"}},
			Authorities: []tekton.Authority{{Name: "controller", Key: &tekton.KeyRef{Data: e.publicKeyPEM(), HashAlgorithm: "sha256"}}},
		},
	}, metav1.CreateOptions{})
	e.check(err)
	e.createTask(newTask(ns, "build"))
	e.waitSigned(ns, "build")
	e.installCommand()

	verified := func(text ...string) func(string) {
		return func(output string) {
			e.expectText(output, text...)
			e.runExpectingSuccess(ns, "build")
		}
	}
	retired := func() {
		e.changeKeyRing(name, func(s *v1alpha1.KeyRingSpec) {
			s.Keys[len(s.Keys)-1].Standby = false
			s.Rotation.QuietPeriod = &metav1.Duration{}
		})
		e.waitKeyRing(name, harness.TimeLimit(5*time.Minute), hasState("signing-secrets", v1alpha1.KeyRetired))
	}
	e.executePage("keys.md", []pageStep{
		{section: "Begin"},
		{section: "Begin", after: verified("signing-secrets", "2027")},
		{section: "Begin", after: func(output string) { e.expectText(output, e.publicKeyPEM()) }},
		{section: "Rotate", after: verified("Active")},
		{section: "Rotate", after: verified("Active")},
		{section: "Rotate", before: first(retired), after: verified("signing-secrets")},
		{section: "Revoke", after: verified("Untrusted")},
		{section: "What an auditor needs", after: func(output string) { e.expectText(output, "signing-secrets", "2027", "2028", "KeyCompromise") }},
		{section: "Restore"},
	})
}

// installCommand builds tkn-trust into a directory of the PATH.
func (e *env) installCommand() {
	e.t.Helper()
	dir := e.t.TempDir()
	cmd := exec.CommandContext(e.t.Context(), "go", "build", "-o", dir+"/", "./cmd/tkn-trust")
	cmd.Dir = harness.Root()
	out, err := cmd.CombinedOutput()
	if err != nil {
		e.t.Fatalf("%v: %s", err, out)
	}
	e.t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// runExpectingSuccess runs a Task that Tekton must verify.
func (e *env) runExpectingSuccess(namespace, name string) {
	e.t.Helper()
	if run := e.runTask(namespace, name); !run.IsSuccessful() {
		e.t.Errorf("run %s of Task %s/%s: %v", run.Name, namespace, name, run.Status.Conditions)
	}
}
