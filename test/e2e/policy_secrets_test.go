// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	trv1alpha1 "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func (e *env) createSecret(namespace, name string, data map[string][]byte) {
	e.t.Helper()
	_, err := cluster.Kube.CoreV1().Secrets(namespace).Create(e.t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data,
	}, metav1.CreateOptions{})
	e.check(err)
}

func inSecret(namespace, name string) v1alpha1.Authority {
	return v1alpha1.Authority{Name: "secret", Key: &v1alpha1.KeyRef{SecretRef: &corev1.SecretReference{Namespace: namespace, Name: name}}}
}

// The author of a policy names Secrets of another namespace. What Events and
// attestations tell the author is the same for a Secret that is missing and for one
// that has something else than a public key. The log says more, but no content.
func TestPolicySecret_OfAnotherNamespaceIsNotRevealed(t *testing.T) {
	m := &matrix{env: startController(t)}
	m.configure(with(signAll, withProvenance))
	victim := m.namespaceLabelled(nil)
	contents := map[string]map[string][]byte{
		"missing":     nil,
		"password":    {"password": []byte("hunter2")},
		"two-entries": {"user": []byte("admin"), "password": []byte("hunter2")},
		"empty":       {},
	}
	told := map[string]string{} // to the author, by name of the Secret
	for name, data := range contents {
		if data != nil {
			m.createSecret(victim, name, data)
		}
		ns := m.namespace()
		m.createTask(newTask(ns, "signed", buildsImage))
		m.waitSigned(ns, "signed")
		m.enforcePolicy(ns, inSecret(victim, name))
		guess := m.createTask(newTask(ns, "guess", withGarbage))
		m.waitEvent(guess, trv1alpha1.ReasonUndecided, name)
		m.createTaskRun(ns, "run", &v1.TaskRef{Name: "signed"})
		verifications, _ := m.verificationStatus(m.waitAttestation(ns, "run", false, soon))
		// The policy has a random name, and each test namespace, too.
		told[name] = strings.NewReplacer(name, "SECRET", ns, "NAMESPACE").Replace(withoutPolicyName(m.undecidedMessage(guess)) + "\n" + describe(verifications))
		m.expectGarbageKept([]*v1.Task{guess})
	}
	for name, got := range told {
		if got != told["missing"] {
			t.Errorf("Secret %q tells the author\n%s\nand a Secret that is missing\n%s", name, got, told["missing"])
		}
	}
	m.waitLogged(m.controller, "Secret of a policy not usable", victim, "two-entries", "found 2 entries")
	m.waitLogged(m.controller, "Secret of a policy not usable", victim, "missing", "not found")
	log, err := m.controller.Log()
	m.check(err)
	if strings.Contains(log, "hunter2") {
		t.Error("the log has the content of a Secret")
	}
}

// undecidedMessage returns the message of the Event on a Task.
func (e *env) undecidedMessage(task *v1.Task) string {
	e.t.Helper()
	events, err := cluster.Kube.CoreV1().Events(task.Namespace).List(e.t.Context(), metav1.ListOptions{
		FieldSelector: "reason=" + trv1alpha1.ReasonUndecided + ",involvedObject.name=" + task.Name,
	})
	e.check(err)
	if len(events.Items) == 0 {
		e.t.Fatalf("no Event %s on %s/%s", trv1alpha1.ReasonUndecided, task.Namespace, task.Name)
	}
	return events.Items[0].Message
}

// withoutPolicyName removes the names that enforcePolicy generates.
func withoutPolicyName(message string) string {
	before, after, _ := strings.Cut(message, "policy-")
	_, after, _ = strings.Cut(after, ",")
	return before + "POLICY," + after
}

// The controller works without the right to read the Secrets of every namespace.
func TestPolicySecret_OfOwnNamespaceNeedsOneRoleBindingEach(t *testing.T) {
	e := newEnv(t)
	registry := e.startDistribution(harness.DistributionOptions{TLS: true, Users: map[string]string{"chains": "password"}})
	settings := with(with(storingSettings(registry.Host(), "tekton,oci"), withProvenance),
		map[string]string{"trustedresources.policies.secrets": "own-namespace"})
	e.configure(settings)
	bound, unbound, foreign := e.namespace(), e.namespace(), e.namespace()
	e.bindSecretsIn(bound, harness.SystemNamespace)
	e.applyPullSecret(registry.Host(), "chains", "password")
	e.controller = e.addReplicaWithEnv([]string{"SSL_CERT_FILE=" + registry.CA()}, "controller")
	m := &matrix{env: e}

	// Whether Secrets are read makes no difference for what is signed and stored.
	for _, ns := range []string{bound, unbound, foreign} {
		built := e.createTask(newTask(ns, "built", buildsImage))
		e.waitSigned(ns, "built")
		e.waitEvent(built, trv1alpha1.ReasonStored, registry.Host()+"/tekton/"+ns)
	}

	key := map[string][]byte{"cosign.pub": []byte(e.publicKeyPEM())}
	e.createSecret(bound, "trusted", key)
	e.createSecret(unbound, "trusted", key)
	for ns, want := range map[string]struct {
		authority    v1alpha1.Authority
		verification string
	}{
		bound:   {inSecret(bound, "trusted"), "Task built PASSED"},
		unbound: {inSecret(unbound, "trusted"), "Task built FAILED KeyUnavailable"},
		foreign: {inSecret(bound, "trusted"), "Task built FAILED KeyNotAllowed"},
	} {
		e.enforcePolicy(ns, want.authority)
		m.createTaskRun(ns, "run", &v1.TaskRef{Name: "built"})
		m.expectVerifications(e.waitAttestation(ns, "run", false, soon), want.verification)
	}
	guess := e.createTask(newTask(foreign, "guess", withGarbage))
	e.waitEvent(guess, trv1alpha1.ReasonUndecided, "trustedresources.policies.secrets", bound)
	e.expectGarbageKept([]*v1.Task{guess})

	// The counterpart: as in Tekton, with the rights of config/.
	e.restoreSecretRights()
	e.configure(with(settings, map[string]string{"trustedresources.policies.secrets": "any"}))
	m.createTaskRun(foreign, "allowed", &v1.TaskRef{Name: "built"})
	m.expectVerifications(e.waitAttestation(foreign, "allowed", false, soon), "Task built PASSED")
}

// bindSecretsIn lets the controller read the Secrets of these namespaces only, as in
// docs/install.md.
func (e *env) bindSecretsIn(namespaces ...string) {
	e.t.Helper()
	_, err := cluster.RunKubectl(e.t.Context(), "", "delete", "clusterrolebinding", "tekton-chains-secrets")
	e.check(err)
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "apply", "-f", secretRights)
		return err
	})
	binding := filepath.Join(harness.Root(), "config", "namespace", "rolebinding-secrets.yaml")
	for _, ns := range namespaces {
		_, err := cluster.RunKubectl(e.t.Context(), "", "-n", ns, "apply", "-f", binding)
		e.check(err)
		e.cleanup(func() error {
			_, err := cluster.RunKubectl(cleanupContext(), "", "-n", ns, "delete", "-f", binding)
			return err
		})
		e.waitMayReadSecrets(ns, true)
	}
	e.waitMayReadSecrets("default", false)
}

var secretRights = filepath.Join(harness.Root(), "config", "203-rbac-secrets.yaml")

// restoreSecretRights gives the controller the rights of config/.
func (e *env) restoreSecretRights() {
	e.t.Helper()
	_, err := cluster.RunKubectl(e.t.Context(), "", "apply", "-f", secretRights)
	e.check(err)
	e.waitMayReadSecrets("default", true)
}

// waitMayReadSecrets waits until the API server uses changed rights.
func (e *env) waitMayReadSecrets(namespace string, want bool) {
	e.t.Helper()
	e.waitMayGet("secrets", namespace, "x", want)
}

// waitMayGet waits until the API server lets the controller get an object, or refuses it.
func (e *env) waitMayGet(resource, namespace, name string, want bool) {
	e.t.Helper()
	e.eventually(soon, func() error {
		review, err := cluster.Kube.AuthorizationV1().SubjectAccessReviews().Create(e.t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User: "system:serviceaccount:" + harness.SystemNamespace + ":" + harness.ServiceAccount, Groups: []string{"system:authenticated"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "get", Resource: resource, Name: name},
			},
		}, metav1.CreateOptions{})
		if err == nil && review.Status.Allowed != want {
			err = fmt.Errorf("the controller may get %s %s/%s: %t, want %t", resource, namespace, name, review.Status.Allowed, want)
		}
		return err
	})
}
