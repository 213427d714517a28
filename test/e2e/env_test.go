// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// signAll is the configuration that signs every kind with the x509 signer.
var signAll = harness.SignAll()

// env is what one test works with: a signing key, and a controller that uses it.
type env struct {
	t          *testing.T
	secretsDir string
	public     crypto.PublicKey
	controller *harness.Controller
	canary     string // an opted-in namespace, see waitOptedOut
}

// startController runs a controller with a new key until the test ends. The
// controller signs all kinds in opted-in namespaces.
func startController(t *testing.T, flags ...string) *env {
	t.Helper()
	e := newEnv(t)
	e.controller = e.addReplica("controller", flags...)
	return e
}

// newEnv makes a new signing key and configures the cluster to sign all kinds. It
// starts no controller.
func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, secretsDir: t.TempDir()}
	secret, public, err := fixtures.CosignSecret()
	e.check(err)
	e.public = public
	e.check(secret.Write(e.secretsDir))
	e.configure(signAll)
	return e
}

// sub returns the same environment for a subtest.
func (e *env) sub(t *testing.T) *env {
	subtest := *e
	subtest.t = t
	return &subtest
}

func (e *env) keyID() string {
	e.t.Helper()
	id, err := keys.KeyID(e.public)
	e.check(err)
	return id
}

// addReplica starts one more controller until the test ends.
func (e *env) addReplica(name string, flags ...string) *harness.Controller {
	e.t.Helper()
	return e.addReplicaWithEnv(nil, name, flags...)
}

func (e *env) addReplicaWithEnv(environment []string, name string, flags ...string) *harness.Controller {
	e.t.Helper()
	controller, err := cluster.AddControllerIn(e.t.Context(), environment, name, e.secretsDir, flags...)
	e.check(err)
	e.removeAtEnd(controller)
	return controller
}

// removeAtEnd removes a controller when the test ends, and shows the end of its log if
// the test has failed.
func (e *env) removeAtEnd(controller *harness.Controller) {
	e.t.Helper()
	e.t.Cleanup(func() {
		if e.t.Failed() {
			log, _ := controller.Log()
			e.t.Logf("end of the log of %s:\n%s", controller.Name, lastLines(log, 40))
		}
		if err := controller.Remove(cleanupContext()); err != nil {
			e.t.Error(err)
		}
	})
}

func lastLines(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// configure replaces the data of the ConfigMap chains-config.
func (e *env) configure(data map[string]string) {
	e.t.Helper()
	e.check(cluster.Configure(e.t.Context(), data))
}

func (e *env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

// namespace creates an opted-in namespace that is deleted when the test ends.
func (e *env) namespace() string {
	e.t.Helper()
	return e.namespaceLabelled(map[string]string{v1alpha1.SignLabel: "true"})
}

func (e *env) namespaceLabelled(labels map[string]string) string {
	e.t.Helper()
	ns, err := cluster.Kube.CoreV1().Namespaces().Create(e.t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels},
	}, metav1.CreateOptions{})
	e.check(err)
	e.cleanup(func() error {
		return ignoreNotFound(cluster.Kube.CoreV1().Namespaces().Delete(cleanupContext(), ns.Name, metav1.DeleteOptions{}))
	})
	e.eventually(soon, func() error { // a Pod needs this ServiceAccount
		_, err := cluster.Kube.CoreV1().ServiceAccounts(ns.Name).Get(e.t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// cleanup calls undo at the end of the test. The context of the test has ended by
// then, so undo uses cleanupContext.
func (e *env) cleanup(undo func() error) {
	e.t.Helper()
	e.t.Cleanup(func() {
		if err := undo(); err != nil {
			e.t.Error(err)
		}
	})
}

func cleanupContext() context.Context { return context.Background() }

// labelNamespace sets the opt-in label of a namespace. An empty value removes the
// label.
func (e *env) labelNamespace(namespace, value string) {
	e.t.Helper()
	e.check(cluster.Label(e.t.Context(), namespace, value))
}

func with(base map[string]string, more map[string]string) map[string]string {
	merged := maps.Clone(base)
	maps.Copy(merged, more)
	return merged
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
