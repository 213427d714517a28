// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/cli"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// setKeyStates sets the status of the KeyRing default as the controller does, which does
// not run.
func (e *env) setKeyStates(states map[string]v1alpha1.KeyState, conditions ...metav1.Condition) {
	e.t.Helper()
	found, err := e.keyRings().Get(e.t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	found.Status = v1alpha1.KeyRingStatus{ObservedGeneration: found.Generation, Target: keyring.Target(found)}
	for _, key := range found.Spec.Keys {
		status := v1alpha1.RingKeyStatus{Name: key.Name, State: states[key.Name], KeyID: "sha256:" + key.Name, PublicKey: "public half of " + key.Name}
		if status.State == v1alpha1.KeyActive {
			found.Status.Active = key.Name
		}
		found.Status.Keys = append(found.Status.Keys, status)
	}
	for _, condition := range conditions {
		condition.LastTransitionTime, condition.ObservedGeneration = metav1.Now(), found.Generation
		found.Status.Conditions = append(found.Status.Conditions, condition)
	}
	_, err = e.keyRings().UpdateStatus(e.t.Context(), found, metav1.UpdateOptions{})
	e.check(err)
}

// ringInStates creates a KeyRing with a key in each state until the test ends.
func (e *env) ringInStates() {
	e.t.Helper()
	key := func(name string, standby bool) v1alpha1.RingKey {
		return v1alpha1.RingKey{Name: name, X509: &v1alpha1.X509Key{Secret: "none-" + name}, Standby: standby}
	}
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{
		key("retired", false), key("active", false), key("pending", true), {Name: "public", PublicKey: "PEM"},
	}})
	e.setKeyStates(map[string]v1alpha1.KeyState{
		"retired": v1alpha1.KeyRetired, "active": v1alpha1.KeyActive, "pending": v1alpha1.KeyPending, "public": v1alpha1.KeyPending,
	}, metav1.Condition{Type: v1alpha1.KeyRingReady, Status: metav1.ConditionTrue, Reason: "KeyActive"})
}

// Each command says why it changes nothing, and then the KeyRing is as before.
func TestKeyCommands_RefuseWhatIsUnsafe(t *testing.T) {
	e := newEnv(t)
	e.ringInStates()
	e.secret("key-default-taken", nil)
	before, err := e.keyRings().Get(t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"status", "other"}, `no KeyRing "other"; its KeyRings are default`},
		{[]string{"generate", "--name", "Not_A_Name"}, "spec.keys[4].name"},
		{[]string{"generate", "--name", "taken"}, "did not make it for key \"taken\""},
		{[]string{"generate", "--name", "active"}, "another key"},
		{[]string{"generate", "--name", "x", "--version", "2"}, "--kms"},
		{[]string{"generate", "--ring", "other", "--name", "x"}, "--namespace-selector"},
		{[]string{"generate", "--ring", "other", "--name", "x", "--namespace-selector", "a=b"}, "repeat the command with --activate"},
		{[]string{"generate", "--ring", "other", "--name", "x", "--if-due"}, "no such KeyRing"},
		{[]string{"generate", "--name", "x", "--namespace-selector", "a=b"}, "KeyRing default exists"},
		{[]string{"rotate"}, `"to" not set`},
		{[]string{"rotate", "--to", "none"}, "its keys are retired, active, pending, public"},
		{[]string{"rotate", "--to", "retired"}, "it is retired"},
		{[]string{"rotate", "--to", "public"}, "no private half"},
		{[]string{"rotate", "--to", "pending", "--accept-unready", "policy"}, "expected NAMESPACE/NAME"},
		{[]string{"rotate", "--to", "pending", "--wait=later"}, "expected done or active"},
		{[]string{"rollback"}, "retired keys any more (retired)"},
		{[]string{"revoke", "active"}, "--reason is missing"},
		{[]string{"revoke", "active", "--reason", "Because"}, "expected one of [KeyCompromise"},
		{[]string{"revoke", "active", "--reason", "KeyCompromise", "--since", "yesterday"}, "expected a time such as"},
		{[]string{"revoke", "active", "--reason", "KeyCompromise"}, "no terminal to ask"},
		{[]string{"revoke", "none", "--reason", "KeyCompromise", "--yes"}, "no key \"none\""},
		{[]string{"retire", "active"}, "is active, expected retired or revoked"},
		{[]string{"retire", "none"}, "no key \"none\""},
		{[]string{"export", "--format", "xml"}, "expected pem, json or dir"},
		{[]string{"export", "--format", "dir"}, "needs --dir"},
		{[]string{"status", "-o", "xml"}, "expected one of table"},
		{[]string{"status", "--context", "none"}, "none"},
		{[]string{"status", "--namespace", "none"}, "namespace none has no KeyRing"},
	} {
		e.says(e.key(cli.Failed, tc.args...), tc.says)
	}
	for _, args := range [][]string{
		{"generate", "--name", "x"}, {"generate", "--name", "x", "--kms", "hashivault://k", "--version", "1"}, {"rotate", "--to", "pending", "--wait"},
		{"revoke", "active", "--reason", "KeyCompromise"}, {"retire", "retired", "--delete-secret"},
	} {
		e.says(e.key(cli.OK, append(args, "--dry-run")...), "dry run")
	}
	after, err := e.keyRings().Get(t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	if before.ResourceVersion != after.ResourceVersion {
		t.Errorf("the KeyRing has changed: %+v", after)
	}
	if _, err := e.secrets().Get(t.Context(), "key-default-x", metav1.GetOptions{}); err == nil {
		t.Error("a dry run has left a Secret")
	}
}

// The last key that can sign is revoked only if somebody insists.
func TestKeyRevoke_RefusesTheLastKey(t *testing.T) {
	e := newEnv(t)
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{{Name: "only", X509: &v1alpha1.X509Key{Secret: "none"}}}})
	e.setKeyStates(map[string]v1alpha1.KeyState{"only": v1alpha1.KeyActive})
	revoke := []string{"revoke", "only", "--reason", "KeyCompromise"}
	e.says(e.key(cli.Failed, revoke...), "no other key that can sign")
	e.says(e.key(cli.OK, append(revoke, "--yes")...), "nothing is signed until", "is revoked (KeyCompromise)")
	e.says(e.key(cli.OK, append(revoke, "--hold")...), "is revoked (KeyCompromise)")
	e.says(e.key(cli.OK, "revoke", "only"), "already (KeyCompromise)")
	ring, err := e.keyRings().Get(t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	if got := ring.Spec.Keys[0].Revoked; !got.Hold || got.Reason != v1alpha1.RevokedKeyCompromise {
		t.Errorf("got %+v, want the reason and hold", got)
	}
}

// The state of a KeyRing for people, for programs and for auditors.
func TestKeyCommands_PrintTheStatus(t *testing.T) {
	e := newEnv(t)
	e.ringInStates()
	e.says(e.key(cli.OK, "status"), "KeyRing default", "NAME     STATE    SIGNED  POLICIES  OPEN-RUNS  LAST-USED  BLOCKED-BY", "retired  retired")
	var list v1alpha1.KeyRingList
	stdout, _ := e.runKey(cluster.Kubeconfig(), cli.OK, "status", "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || len(list.Items) != 1 || list.Items[0].Kind != "KeyRing" || list.Items[0].Status.Active != "active" {
		t.Errorf("%v: got %s", err, stdout)
	}
	var ring v1alpha1.KeyRing
	stdout, stderr := e.runKey(cluster.Kubeconfig(), cli.OK, "rotate", "--to", "pending", "-o", "json")
	e.says(stderr, `Key "pending" is the target`)
	if err := json.Unmarshal([]byte(stdout), &ring); err != nil || keyring.Target(&ring) != "pending" {
		t.Errorf("%v: got %s", err, stdout)
	}
	stdout, _ = e.runKey(cluster.Kubeconfig(), cli.OK, "export")
	e.says(stdout, "public half of active", "public half of pending")
	if containsAll(stdout, []string{"public half of retired"}) {
		t.Errorf("the retired key is among the trusted ones: %s", stdout)
	}
	dir := filepath.Join(t.TempDir(), "keys")
	e.key(cli.OK, "export", "--format", "dir", "--dir", dir)
	for file, want := range map[string]string{"retired.pub": "public half of retired", v1alpha1.TrustedKeysBundle: "public half of active", v1alpha1.TrustedKeysIndex: `"state": "retired"`} {
		content, err := os.ReadFile(filepath.Join(dir, file))
		e.check(err)
		e.says(string(content), want)
	}
	e.says(e.key(cli.Findings, "rotate", "--to", "pending", "--wait", "--timeout", "1s"), "the controller has not read the change yet")
}

// An account with too few rights, and a cluster without the type, are told what to do.
func TestKeyCommands_SayWhatIsMissing(t *testing.T) {
	e := newEnv(t)
	e.ringInStates()
	reader, err := cluster.WriteKubeconfigOf(t.Context(), harness.SystemNamespace, harness.ServiceAccount)
	e.check(err)
	e.says(e.keyAs(reader, cli.OK, "status"), "active")
	e.says(e.keyAs(reader, cli.Failed, "rotate", "--to", "pending"), `needs the verb "update" for keyrings in namespace tekton-chains`)
	nobody, err := cluster.WriteKubeconfigOf(t.Context(), harness.SystemNamespace, "default")
	e.check(err)
	e.says(e.keyAs(nobody, cli.Failed, "status"), `needs the verb "list" for keyrings`)

	crd := filepath.Join(harness.Root(), "config", "101-keyrings.yaml")
	e.check(e.keyRings().Delete(t.Context(), v1alpha1.DefaultKeyRing, metav1.DeleteOptions{}))
	_, err = cluster.RunKubectl(t.Context(), "", "delete", "--wait", "-f", crd)
	e.check(err)
	defer func() {
		_, err := cluster.RunKubectl(cleanupContext(), "", "apply", "-f", crd)
		e.check(err)
		e.check(harness.Eventually(cleanupContext(), soon, func(ctx context.Context) error { // removed again when the test ends
			_, err := e.keyRings().Create(ctx, &v1alpha1.KeyRing{
				ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultKeyRing}, Spec: v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{{Name: "k", PublicKey: "PEM"}}},
			}, metav1.CreateOptions{})
			return err
		}))
	}()
	e.eventually(soon, func() error { _, err := e.keyRings().List(t.Context(), metav1.ListOptions{}); return mustFail(err) })
	e.says(e.key(cli.Failed, "status"), "CustomResourceDefinition of KeyRings is missing")
	e.says(e.key(cli.Failed, "rotate", "--to", "x"), "CustomResourceDefinition of KeyRings is missing")
}
