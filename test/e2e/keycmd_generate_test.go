// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/cli"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// mustFail returns an error if there is none.
func mustFail(err error) error {
	if err == nil {
		return errors.New("got no error")
	}
	return nil
}

func (e *env) getSecret(name string) *corev1.Secret {
	e.t.Helper()
	secret, err := e.secrets().Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	return secret
}

// expectGenerated checks the Secret and the entry of a generated key.
func (e *env) expectGenerated(ring, name string, standby bool) {
	e.t.Helper()
	secret := e.getSecret("key-" + ring + "-" + name)
	key, err := keys.FromSecret(e.t.Context(), secret.Name, secret.Data)
	e.check(err)
	public, err := key.PEM()
	e.check(err)
	if secret.Immutable == nil || !*secret.Immutable || public != string(secret.Data["cosign.pub"]) {
		e.t.Errorf("Secret %s: immutable %v, public half %q, want %q", secret.Name, secret.Immutable, secret.Data["cosign.pub"], public)
	}
	found, err := e.keyRings().Get(e.t.Context(), ring, metav1.GetOptions{})
	e.check(err)
	entry := keyring.SpecOf(found, name)
	if entry == nil || entry.PublicKey != public || entry.X509 == nil || entry.X509.Secret != secret.Name || entry.Standby != standby {
		e.t.Errorf("entry of key %q: got %+v, want Secret %s, the public half and standby %t", name, entry, secret.Name, standby)
	}
}

func TestKeyGenerate_MakesAnImmutableSecret(t *testing.T) {
	e := newEnv(t)
	e.removeKeyRing(v1alpha1.DefaultKeyRing)
	e.removeKeyRing("prod")
	for _, name := range []string{"key-default-first", "key-default-second", "key-prod-first"} {
		e.removeSecret(name)
	}
	e.says(e.key(cli.Failed, "generate", "--name", "first"), "cannot begin with the present key", "no key is set: Secret tekton-chains/signing-secrets", "--activate")
	out := e.key(cli.OK, "generate", "--name", "first", "--activate") + e.key(cli.OK, "generate", "--name", "second", "-o", "yaml") +
		e.key(cli.OK, "generate", "--ring", "prod", "--name", "first", "--activate", "--namespace-selector", "stage=prod")
	e.expectGenerated(v1alpha1.DefaultKeyRing, "first", false)
	e.expectGenerated(v1alpha1.DefaultKeyRing, "second", true)
	e.expectGenerated("prod", "first", false)
	for _, name := range []string{"key-default-first", "key-default-second", "key-prod-first"} {
		for file, content := range e.getSecret(name).Data {
			if file != "cosign.pub" && strings.Contains(out, string(content)) {
				t.Errorf("the output has %s of Secret %s", file, name)
			}
		}
	}
	e.says(e.key(cli.OK, "generate", "--name", "vault", "--kms", "hashivault://tekton", "--version", "2"), `Key "vault" is a standby`)
	ring, err := e.keyRings().Get(t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	if key := keyring.SpecOf(ring, "vault"); key.KMS == nil || *key.KMS != (v1alpha1.KMSKey{Ref: "hashivault://tekton", Version: "2"}) || key.X509 != nil {
		t.Errorf("got %+v", key)
	}
	if got := keyring.Target(ring); got != "first" {
		t.Errorf("the target is %q, want first", got)
	}
}

// refuseWrites lets the API server refuse the writes of KeyRings that are no dry runs, until
// the returned function is called.
const refuseWrites = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse-keyrings}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: ["trustedresources.tekton.dev"], apiVersions: ["*"], resources: ["keyrings"], operations: ["UPDATE"]}]
  validations: [{expression: "request.dryRun", message: "no writes now"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse-keyrings}
spec: {policyName: refuse-keyrings, validationActions: [Deny]}
`

// A command that fails after it has made the key says what is left. The next one goes on
// with the same key.
func TestKeyGenerate_ContinuesAfterAFailure(t *testing.T) {
	e := newEnv(t)
	e.ringInStates()
	e.removeSecret("key-default-late")
	touch := func() error { // a write that changes nothing
		ring, err := e.keyRings().Get(t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
		if err == nil {
			_, err = e.keyRings().Update(t.Context(), ring, metav1.UpdateOptions{})
		}
		return err
	}
	e.kubectlApply(refuseWrites)
	remove := func() error {
		_, err := cluster.RunKubectl(cleanupContext(), refuseWrites, "delete", "--ignore-not-found", "-f", "-")
		return err
	}
	e.cleanup(remove)
	e.eventually(soon, func() error { return mustFail(touch()) })
	e.says(e.key(cli.Failed, "generate", "--name", "late"), "no writes now", "Secret tekton-chains/key-default-late has the new key",
		"repeat the command with --name late", "delete secret key-default-late")
	made := e.getSecret("key-default-late")

	e.check(remove())
	e.eventually(soon, touch)
	_, err := cluster.RunKubectl(t.Context(), "", "apply", "-f", filepath.Join(harness.Root(), "config", "samples", "keys"))
	e.check(err)
	e.removeSamples()
	blind, err := cluster.WriteKubeconfigOf(t.Context(), harness.SystemNamespace, "generate-key")
	e.check(err)
	e.says(e.keyAs(blind, cli.Failed, "generate", "--name", "late"), "this account may not read it", "delete secret key-default-late")
	e.says(e.key(cli.OK, "generate", "--name", "late"), "has the key of an earlier call", "standby")
	e.expectGenerated(v1alpha1.DefaultKeyRing, "late", true)
	if got := e.getSecret("key-default-late"); got.UID != made.UID {
		t.Error("the Secret was made again")
	}
}

// removeSamples deletes the objects of config/samples/keys when the test ends.
func (e *env) removeSamples() {
	e.t.Helper()
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "-f", filepath.Join(harness.Root(), "config", "samples", "keys"))
		return err
	})
}

// The CronJob makes a key when a rotation is due, once, and its account can do nothing else.
func TestKeyGenerate_RunsInACronJob(t *testing.T) {
	e := newEnv(t)
	e.ringInStates()
	name := time.Now().UTC().Format(time.DateOnly)
	e.removeSecret("key-default-" + name)
	_, err := cluster.RunKubectl(t.Context(), "", "apply", "-f", filepath.Join(harness.Root(), "config", "samples", "keys"))
	e.check(err)
	e.removeSamples()
	job, err := cluster.Kube.BatchV1().CronJobs(harness.SystemNamespace).Get(t.Context(), "generate-key", metav1.GetOptions{})
	e.check(err)
	pod := job.Spec.JobTemplate.Spec.Template.Spec
	_, err = cluster.Kube.CoreV1().Pods(job.Namespace).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: job.Name}, Spec: pod},
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}) // the rules for Pods of the namespace
	e.check(err)
	kubeconfig, err := cluster.WriteKubeconfigOf(t.Context(), harness.SystemNamespace, pod.ServiceAccountName)
	e.check(err)
	run := func(says ...string) {
		t.Helper()
		args := pod.Containers[0].Args
		e.says(e.keyAs(kubeconfig, cli.OK, args[1:]...), says...)
	}
	run("no rotation of KeyRing default is due")

	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = s.Keys[:2] }) // no key waits
	states := map[string]v1alpha1.KeyState{"retired": v1alpha1.KeyRetired, "active": v1alpha1.KeyActive, name: v1alpha1.KeyPending}
	due := metav1.Condition{Type: v1alpha1.KeyRingRotationDue, Status: metav1.ConditionTrue, Reason: "RotateAfter"}
	e.setKeyStates(states, due)
	run("has the new key", "standby")
	e.expectGenerated(v1alpha1.DefaultKeyRing, name, true)
	run("waits for tkn-trust key rotate --to " + name) // not yet seen by the controller
	e.setKeyStates(states, due)
	run("waits for tkn-trust key rotate --to " + name)

	e.expectRights(job, map[authorizationv1.ResourceAttributes]bool{
		{Verb: "create", Resource: "secrets"}: true, {Verb: "get", Resource: "secrets"}: false, {Verb: "list", Resource: "secrets"}: false,
		{Verb: "update", Resource: "secrets"}: false, {Verb: "delete", Resource: "secrets"}: false,
		{Verb: "update", Group: v1alpha1.Group, Resource: "keyrings", Name: "default"}:                        true,
		{Verb: "update", Group: v1alpha1.Group, Resource: "keyrings", Name: "other"}:                          false,
		{Verb: "update", Group: v1alpha1.Group, Resource: "keyrings", Name: "default", Subresource: "status"}: false,
		{Verb: "delete", Group: v1alpha1.Group, Resource: "keyrings", Name: "default"}:                        false,
	})
}

// expectRights asks the API server what the account of a CronJob may do.
func (e *env) expectRights(job *batchv1.CronJob, want map[authorizationv1.ResourceAttributes]bool) {
	e.t.Helper()
	for attributes, allowed := range want {
		attributes.Namespace = job.Namespace
		review, err := cluster.Kube.AuthorizationV1().SubjectAccessReviews().Create(e.t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User:               fmt.Sprintf("system:serviceaccount:%s:%s", job.Namespace, job.Spec.JobTemplate.Spec.Template.Spec.ServiceAccountName),
				ResourceAttributes: &attributes,
			},
		}, metav1.CreateOptions{})
		e.check(err)
		if review.Status.Allowed != allowed {
			e.t.Errorf("%+v: allowed %t, want %t", attributes, review.Status.Allowed, allowed)
		}
	}
}
