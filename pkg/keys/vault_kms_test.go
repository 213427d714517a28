// SPDX-License-Identifier: Apache-2.0

//go:build kms

package keys_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	chainsconfig "github.com/tektoncd/chains/pkg/config"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// rights are all that a signer needs at Vault.
const rights = `
path "transit/keys/rights" { capabilities = ["read"] }
path "transit/sign/rights/*" { capabilities = ["update"] }
`

func startVault(t *testing.T) *harness.Vault {
	t.Helper()
	binary, err := harness.BuildVault(t.Context(), os.Stderr)
	check(t, err)
	vault, err := harness.StartVault(t.Context(), binary, os.Stderr)
	check(t, err)
	t.Cleanup(func() { check(t, vault.Stop()) })
	return vault
}

// newKMS returns a KMS as after a restart of the controller: nothing is known.
func newKMS(t *testing.T, vault *harness.Vault) *keys.KMS {
	t.Helper()
	return keys.NewKMS(auth(chainsconfig.KMSAuth{Address: vault.Address, TokenPath: writeSecret(t, vault.Token)}))
}

func createKey(t *testing.T, vault *harness.Vault, name, keyType string) (ref string) {
	t.Helper()
	ref, err := vault.CreateKey(t.Context(), name, keyType)
	check(t, err)
	return ref
}

func loadKey(t *testing.T, kms *keys.KMS, ref, version string) *keys.Key {
	t.Helper()
	key, err := kms.Key(t.Context(), ref, version)
	check(t, err)
	return key
}

// Tekton judges signatures with the public key inline in a policy. A rotation does not move
// the pin, and neither version accepts the signatures of the other one.
//
// A rotation that auto_rotate_period makes needs an hour at least. Vault then calls the
// same function as for the rotation here.
func TestKMS_PinnedVersionsOfVaultPassTekton(t *testing.T) {
	vault := startVault(t)
	for _, keyType := range []string{"ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048"} {
		t.Run(keyType, func(t *testing.T) {
			ref, kms := createKey(t, vault, keyType, keyType), newKMS(t, vault)
			check(t, vault.ConfigureKey(t.Context(), keyType, map[string]any{"auto_rotate_period": "1h"}))
			first := loadKey(t, kms, ref, "1")
			checkTektonAccepts(t, first)
			before := signTask(t, first)
			_, err := kms.Key(t.Context(), ref, "2")
			checkNames(t, err, ref, `version "2"`, "no such version in Vault: the latest is 1")

			check(t, vault.RotateKey(t.Context(), keyType))
			checkLatest(t, kms, ref, "2")
			checkTektonAccepts(t, first) // also signs: with version 1
			second := loadKey(t, kms, ref, "2")
			checkTektonAccepts(t, second)
			if again := loadKey(t, newKMS(t, vault), ref, "1"); again.ID != first.ID || second.ID == first.ID {
				t.Errorf("version 1 is %s, and %s after a rotation; version 2 is %s", first.ID, again.ID, second.ID)
			}
			checkTekton(t, first, before, true)
			checkTekton(t, second, before, false)
			checkTekton(t, first, signTask(t, second), false)
			checkTekton(t, second, signTask(t, first), false)
		})
	}
}

func TestKMS_VaultKeysThatTektonCannotVerifyAreRefused(t *testing.T) {
	vault := startVault(t)
	for _, keyType := range []string{"ed25519", "aes256-gcm96"} {
		_, err := newKMS(t, vault).Key(t.Context(), createKey(t, vault, keyType, keyType), "1")
		checkNames(t, err, "hashivault://"+keyType, `version "1"`, `type "`+keyType+`"`, "Tekton cannot verify")
	}
}

// Vault archives versions below min_decryption_version: it neither returns their public
// keys nor signs. What was signed before stays valid.
func TestKMS_MinDecryptionVersionAbovePin(t *testing.T) {
	vault := startVault(t)
	ref, kms := createKey(t, vault, "archived", harness.VaultKeyType), newKMS(t, vault)
	first := loadKey(t, kms, ref, "1")
	before := signTask(t, first)
	check(t, vault.RotateKey(t.Context(), "archived"))
	check(t, vault.ConfigureKey(t.Context(), "archived", map[string]any{"min_decryption_version": 2}))

	_, err := first.Sign(t.Context(), []byte("message"))
	checkNames(t, err, ref, `version "1"`, "older than min_decryption_version, which is 2")
	_, err = newKMS(t, vault).Key(t.Context(), ref, "1")
	checkNames(t, err, ref, `version "1"`, "older than min_decryption_version, which is 2")
	checkTektonAccepts(t, loadKey(t, kms, ref, "2"))
	persisted, err := first.PEM() // as the status of a KeyRing has it
	check(t, err)
	check(t, tektonVerifies(t.Context(), before, persisted))

	check(t, vault.ConfigureKey(t.Context(), "archived", map[string]any{"min_decryption_version": 1}))
	checkTektonAccepts(t, first)
}

func TestKMS_MinEncryptionVersionAbovePin(t *testing.T) {
	vault := startVault(t)
	ref, kms := createKey(t, vault, "minimum", harness.VaultKeyType), newKMS(t, vault)
	first := loadKey(t, kms, ref, "1")
	check(t, vault.RotateKey(t.Context(), "minimum"))
	check(t, vault.ConfigureKey(t.Context(), "minimum", map[string]any{"min_encryption_version": 2}))
	_, err := first.Sign(t.Context(), []byte("message"))
	checkNames(t, err, ref, `version "1"`, "less than the minimum encryption key version")
	_, err = newKMS(t, vault).Key(t.Context(), ref, "1")
	checkNames(t, err, ref, `version "1"`, "less than the minimum encryption key version")
	checkTektonAccepts(t, loadKey(t, kms, ref, "2"))
}

func TestKMS_VaultSealedOrHanging(t *testing.T) {
	vault := startVault(t)
	ref, kms := createKey(t, vault, "failing", harness.VaultKeyType), newKMS(t, vault)
	key := loadKey(t, kms, ref, "1")
	before := signTask(t, key)

	check(t, vault.Seal(t.Context()))
	_, err := key.Sign(t.Context(), []byte("message"))
	checkNames(t, err, ref, `version "1"`, "Vault is sealed")
	_, err = newKMS(t, vault).Key(t.Context(), ref, "1")
	checkNames(t, err, ref, `version "1"`, "Vault is sealed")
	checkTekton(t, key, before, true)
	check(t, vault.Unseal(t.Context()))
	checkTektonAccepts(t, key)

	check(t, vault.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	for _, sign := range []func() error{
		func() error { _, err := key.Sign(ctx, []byte("message")); return err },
		func() error { _, err := newKMS(t, vault).Key(ctx, ref, "1"); return err },
	} {
		err := sign()
		checkNames(t, err, ref, `version "1"`)
		if !errors.Is(err, keys.ErrNoAnswer) {
			t.Errorf("got error %v, want %v", err, keys.ErrNoAnswer)
		}
	}
	checkTekton(t, key, before, true)
	check(t, vault.Resume())
	checkTektonAccepts(t, key)
}

func TestKMS_VaultTokenNeedsTwoRights(t *testing.T) {
	vault := startVault(t)
	ref := createKey(t, vault, "rights", harness.VaultKeyType)
	createKey(t, vault, "other", harness.VaultKeyType)
	token, err := vault.CreateToken(t.Context(), "signer", rights)
	check(t, err)
	file := writeSecret(t, token)
	kms := keys.NewKMS(auth(chainsconfig.KMSAuth{Address: vault.Address, TokenPath: file}))
	key := loadKey(t, kms, ref, "1")
	checkTektonAccepts(t, key)
	_, err = kms.Key(t.Context(), "hashivault://other", "1")
	checkNames(t, err, "hashivault://other", "permission denied")

	check(t, vault.RevokeToken(t.Context(), token))
	_, err = key.Sign(t.Context(), []byte("message"))
	checkNames(t, err, ref, "permission denied")
	token, err = vault.CreateToken(t.Context(), "signer", rights)
	check(t, err)
	check(t, os.WriteFile(file, []byte(token), 0o600))
	checkTektonAccepts(t, key)
}
