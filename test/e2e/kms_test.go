// SPDX-License-Identifier: Apache-2.0

//go:build kms

package e2e

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/apis"

	trv1alpha1 "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/cli"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// vault is shared by all tests, like the cluster. Each test has a key of its own.
var vault *harness.Vault

func init() { beforeCluster = startVault }

// startVault starts Vault and puts its address and token into the environment of all
// processes of the cluster. Tekton has no other configuration for a KMS.
func startVault(ctx context.Context) (stop func() error, err error) {
	binary, err := harness.BuildVault(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	if vault, err = harness.StartVault(ctx, binary, os.Stderr); err != nil {
		return nil, err
	}
	for name, value := range vault.Env() {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	return vault.Stop, nil
}

// startWithKMS runs a controller until the test ends. The controller has no key other
// than a new key of Vault. More settings are added to its configuration.
func startWithKMS(t *testing.T, keyName string, more map[string]string) (e *env, ref string) {
	t.Helper()
	e = &env{t: t, secretsDir: t.TempDir()}
	ref, err := vault.CreateKey(t.Context(), keyName, harness.VaultKeyType)
	e.check(err)
	e.public = e.publicKey(ref)
	e.configure(with(vaultSettings(ref, e.vaultToken()), more))
	e.controller = e.addReplica("controller")
	return e, ref
}

// vaultSettings returns settings that sign everything with a key of Vault.
func vaultSettings(ref, token string) map[string]string {
	settings := with(vaultAccess(token), map[string]string{
		"artifacts.taskrun.signer": "kms",
		"artifacts.oci.signer":     "none", // there is no registry
		"signers.kms.kmsref":       ref,
	})
	for _, kind := range resource.Kinds {
		settings["artifacts."+kind.ConfigName()+".signer"] = "kms"
	}
	return settings
}

// vaultAccess returns settings with which keys of KeyRings in Vault can be used.
func vaultAccess(token string) map[string]string {
	return map[string]string{"signers.kms.auth.address": vault.Address, "signers.kms.auth.token-path": token}
}

// vaultToken writes the token of Vault into a file, and returns its name.
func (e *env) vaultToken() string {
	e.t.Helper()
	token := filepath.Join(e.t.TempDir(), "token")
	e.check(os.WriteFile(token, []byte(vault.Token), 0o600))
	return token
}

func (e *env) publicKey(ref string) crypto.PublicKey {
	e.t.Helper()
	signer, err := kms.Get(e.t.Context(), ref, crypto.SHA256)
	e.check(err)
	public, err := signer.PublicKey()
	e.check(err)
	return public
}

// vaultKey returns the newest version of a key in Vault, which is known, for a KeyRing.
func (e *env) vaultKey(ref, newest string) ringKey {
	e.t.Helper()
	return ringKey{name: "v" + newest, public: e.publicKey(ref), kms: &trv1alpha1.KMSKey{Ref: ref, Version: newest}}
}

func TestKMS_SignaturesPassTektonsEnforcement(t *testing.T) {
	e, ref := startWithKMS(t, "enforced", nil)
	authorities := map[string]v1alpha1.KeyRef{"kms": {KMS: ref}, "inline": {Data: e.publicKeyPEM()}}
	namespaces := map[string]string{}
	for name, key := range authorities {
		ns := e.namespace()
		namespaces[name] = ns
		e.enforcePolicy(ns, v1alpha1.Authority{Name: name, Key: &key})
		e.createTask(newTask(ns, "signed"))
		e.waitSigned(ns, "signed")
		run := e.runTask(ns, "signed")
		for _, condition := range []apis.ConditionType{apis.ConditionSucceeded, trustedresources.ConditionTrustedResourcesVerified} {
			if c := run.Status.GetCondition(condition); !c.IsTrue() {
				t.Errorf("authority %s: %s is %+v", name, condition, c)
			}
		}
	}
	e.check(e.controller.Stop(t.Context()))
	for _, ns := range namespaces {
		e.patchTask(ns, "signed", `{"spec":{"description":"tampered with"}}`)
		e.runExpectingRefusal(ns, "signed")
	}
}

func TestKMS_SignsRuns(t *testing.T) {
	e, _ := startWithKMS(t, "runs", nil)
	run := e.runBuildTask(e.namespace())
	_, err := harness.Attestation(run, harness.TaskRun, e.public)
	e.check(err)
}

func TestKMS_SignsAgainAfterRotation(t *testing.T) {
	e, ref := startWithKMS(t, "rotated", nil)
	ns := e.namespace()
	old := e.createTask(newTask(ns, "old"))
	e.waitSigned(ns, "old")

	e.check(fixtures.Secret{"retired.pub": []byte(e.publicKeyPEM())}.Write(e.secretsDir))
	e.check(vault.RotateKey(t.Context(), "rotated"))
	e.public = e.publicKey(ref)
	e.createTask(newTask(ns, "new")) // the controller notices the rotation when it signs this Task
	e.waitSigned(ns, "new")
	e.waitSigned(ns, "old")
	e.waitEvent(old, trv1alpha1.ReasonSignedAgain, "not active any more")
}

func TestKMS_SignsAfterUnseal(t *testing.T) {
	e, _ := startWithKMS(t, "sealed", nil)
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.waitSigned(ns, "before")

	e.check(vault.Seal(t.Context()))
	e.cleanup(func() error { return vault.Unseal(cleanupContext()) }) // does nothing after the call below
	waits := e.createTask(newTask(ns, "waits"))
	e.waitEvent(waits, trv1alpha1.ReasonSignerFailed, "Vault is sealed")
	e.check(vault.Unseal(t.Context()))
	e.waitSigned(ns, "waits")
}

// Vault accepts connections and does not respond. sigstore's client has no timeout for
// that, so the controller must have one.
func TestKMS_SignsAfterHang(t *testing.T) {
	e, _ := startWithKMS(t, "hangs", nil)
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.waitSigned(ns, "before")

	e.check(vault.Pause())
	e.cleanup(vault.Resume) // does nothing after the call below
	waits := e.createTask(newTask(ns, "waits"))
	e.waitEventWithin(harness.TimeLimit(2*time.Minute), waits, trv1alpha1.ReasonSignerFailed, "no answer in time")
	e.check(vault.Resume())
	e.waitSigned(ns, "waits")
}

// An authority of a policy may name a key of a KMS.
func TestKMS_AttestationPassesWithKMSAuthority(t *testing.T) {
	e, ref := startWithKMS(t, "attested", withProvenance)
	m := &matrix{env: e}
	ns := e.namespace()
	e.enforcePolicy(ns, v1alpha1.Authority{Name: "kms", Key: &v1alpha1.KeyRef{KMS: ref}})
	e.createTask(newTask(ns, "built", buildsImage))
	e.waitSigned(ns, "built")
	m.createTaskRun(ns, "passed", &v1.TaskRef{Name: "built"})
	m.expectVerifications(e.waitAttestation(ns, "passed", false, soon), "Task built PASSED")
}

// A rotation at the KMS does not move the key of a KeyRing: the next version signs when the
// KeyRing names it, and not before policies trust it.
func TestKMS_KeyRingPinsTheVersion(t *testing.T) {
	e, ref := startWithKMS(t, "pinned", nil)
	first := e.vaultKey(ref, "1")
	e.createKeyRing(trv1alpha1.DefaultKeyRing, trv1alpha1.KeyRingSpec{Keys: []trv1alpha1.RingKey{first.spec()}})
	e.waitKeyRing(trv1alpha1.DefaultKeyRing, soon, isActive("v1"))
	ns := e.namespace()
	policy := e.enforcePolicy(ns, first.authority(e))
	e.createTask(newTask(ns, "before"))
	e.waitSigned(ns, "before")

	e.check(vault.RotateKey(t.Context(), "pinned"))
	second := e.vaultKey(ref, "2")
	e.createTask(newTask(ns, "after"))
	e.waitSigned(ns, "after") // with version 1
	e.waitKeyRing(trv1alpha1.DefaultKeyRing, soon, isActive("v1"))
	e.runTasks(ns, "before", "after")
	e.waitKeyRing(trv1alpha1.DefaultKeyRing, soon, hasLatest("v1", "1"))
	if status := e.key(cli.OK, "status"); strings.Contains(status, "is newer than") {
		t.Errorf("the status names a newer version before the controller knows one:\n%s", status)
	}
	e.check(e.controller.Kill(t.Context())) // a new leader asks Vault at once, and then every ten minutes
	e.check(e.controller.Start(t.Context()))
	e.waitKeyRing(trv1alpha1.DefaultKeyRing, afterFailover, hasLatest("v1", "2"))
	ring, err := e.keyRings().Get(t.Context(), trv1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	adopts := "tkn-trust key generate --ring default --kms " + ref + " --version 2"
	e.waitEvent(ring, trv1alpha1.ReasonKeyVersionAvailable, adopts)
	e.says(e.key(cli.OK, "status"), adopts)
	e.waitKeyRing(trv1alpha1.DefaultKeyRing, soon, isActive("v1")) // nothing is adopted

	e.changeKeyRing(trv1alpha1.DefaultKeyRing, func(s *trv1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
	e.waitKeyRing(trv1alpha1.DefaultKeyRing, soon, isBlocked(keyring.Activating, ns+"/"+policy.Name))
	e.runTasks(ns, "before", "after")
	policy.Spec.Authorities = append(policy.Spec.Authorities, second.authority(e))
	_, err = cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Update(t.Context(), policy, metav1.UpdateOptions{})
	e.check(err)
	e.waitKeyRing(trv1alpha1.DefaultKeyRing, soon, isActive("v2"))
	e.public = second.public
	e.waitSigned(ns, "before")
	e.waitSigned(ns, "after")
	e.runTasks(ns, "before", "after")
}

// hasLatest checks the latest version that the KMS has of a key.
func hasLatest(key, version string) func(*trv1alpha1.KeyRingStatus) error {
	return func(status *trv1alpha1.KeyRingStatus) error {
		if found := keyring.StatusOf(status, key); found == nil || found.LatestVersion != version {
			return fmt.Errorf("key %q is %+v, want the latest version %s", key, found, version)
		}
		return nil
	}
}
