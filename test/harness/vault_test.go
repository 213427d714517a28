// SPDX-License-Identifier: Apache-2.0

//go:build kms

package harness

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	_ "github.com/sigstore/sigstore/pkg/signature/kms/hashivault" // the provider
)

const message = "a checksum"

func startVault(t *testing.T) *Vault {
	t.Helper()
	binary, err := BuildVault(t.Context(), os.Stderr)
	check(t, err)
	vault, err := StartVault(t.Context(), binary, os.Stderr)
	check(t, err)
	t.Cleanup(func() {
		if err := vault.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, value := range vault.Env() {
		t.Setenv(name, value)
	}
	return vault
}

func TestKMS_VaultSignsWithEachKeyType(t *testing.T) {
	vault := startVault(t)
	for _, keyType := range []string{VaultKeyType, "rsa-2048"} {
		t.Run(keyType, func(t *testing.T) {
			ref, err := vault.CreateKey(t.Context(), "of-"+keyType, keyType)
			check(t, err)
			sig := sign(t, ref)
			check(t, verify(t, ref, message, sig))
			if keyType == VaultKeyType { // with RSA keys sigstore's client signs PKCS #1 v1.5 but verifies PSS
				check(t, load(t, ref).VerifySignature(bytes.NewReader(sig), strings.NewReader(message)))
			}
			if verify(t, ref, "something else", sig) == nil {
				t.Error("the signature verifies another message")
			}
		})
	}
}

// A client fails while Vault is sealed and works after Unseal. After a rotation the new
// version of the key signs.
func TestKMS_VaultFailsWhileSealedAndRotates(t *testing.T) {
	vault := startVault(t)
	ref, err := vault.CreateKey(t.Context(), "key", VaultKeyType)
	check(t, err)
	before := sign(t, ref)

	check(t, vault.Seal(t.Context()))
	if _, err := load(t, ref).SignMessage(strings.NewReader(message)); err == nil {
		t.Error("Vault signs while it is sealed")
	}
	check(t, vault.Unseal(t.Context()))
	check(t, verify(t, ref, message, before))

	check(t, vault.RotateKey(t.Context(), "key"))
	check(t, verify(t, ref, message, sign(t, ref)))
	if verify(t, ref, message, before) == nil {
		t.Error("the new version of the key verifies a signature of the old version")
	}
}

func TestKMS_VaultDoesNotAnswerWhilePaused(t *testing.T) {
	vault := startVault(t)
	answers := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err := vault.client.Sys().HealthWithContext(ctx)
		return err
	}
	check(t, answers(time.Minute))
	check(t, vault.Pause())
	if err := answers(100 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("request while Vault is paused: got error %v, want %v", err, context.DeadlineExceeded)
	}
	check(t, vault.Resume())
	check(t, answers(time.Minute))
	check(t, vault.Pause()) // the cleanup stops a paused Vault
}

// load returns a new client, which has not read the public key yet.
func load(t *testing.T, ref string) kms.SignerVerifier {
	t.Helper()
	signer, err := kms.Get(t.Context(), ref, crypto.SHA256)
	check(t, err)
	return signer
}

func sign(t *testing.T, ref string) []byte {
	t.Helper()
	sig, err := load(t, ref).SignMessage(strings.NewReader(message))
	check(t, err)
	return sig
}

// verify verifies a signature in this process, with the public key from Vault.
func verify(t *testing.T, ref, message string, sig []byte) error {
	t.Helper()
	public, err := load(t, ref).PublicKey()
	check(t, err)
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	check(t, err)
	return verifier.VerifySignature(bytes.NewReader(sig), strings.NewReader(message))
}
