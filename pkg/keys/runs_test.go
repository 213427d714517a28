// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/kms/fake"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"

	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// A run can be signed with each key that Chains can sign with, also with those that
// Tekton cannot verify. No resource needs to be signed.
func TestRunSigner_AcceptsKeysOfChains(t *testing.T) {
	x509 := must[fixtures.Secret](t)(first(fixtures.X509Secret()))
	cosign := must[fixtures.Secret](t)(first(fixtures.CosignSecret()))
	ed25519 := must[fixtures.Secret](t)(fixtures.Ed25519CosignSecret())
	for name, secret := range map[string]fixtures.Secret{"x509.pem": x509, "cosign.key": cosign, "cosign.key with Ed25519": ed25519} {
		for _, settings := range []Settings{{}, x509Only} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				write(t, dir, secret)
				l := NewLoader(dir, func() {})
				l.Configure(t.Context(), settings)
				signer := must[signature.SignerVerifier](t)(l.RunSigner(t.Context(), signing.TypeX509, chainsconfig.KMSSigner{}))
				sig := must[[]byte](t)(signer.SignMessage(bytes.NewReader([]byte("m"))))
				if err := signer.VerifySignature(bytes.NewReader(sig), bytes.NewReader([]byte("m"))); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func first[A, B any](a A, _ B, err error) (A, error) { return a, err }

func TestRunSigner_KeepsLastGoodKey(t *testing.T) {
	good := must[fixtures.Secret](t)(first(fixtures.X509Secret()))
	for name, tc := range badSecrets(t) {
		if name == "cosign.key is Ed25519" {
			continue // Chains signs with it
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tc.secret)
			l := NewLoader(dir, func() {})
			l.load(t.Context())
			_, err := l.RunSigner(t.Context(), signing.TypeX509, chainsconfig.KMSSigner{})
			checkRefusal(t, err, dir, tc.want)
			if notSet := errors.Is(err, ErrNotSet); notSet != (name == "no key") || !errors.Is(err, ErrNoKey) {
				t.Errorf("%v: ErrNotSet is %v", err, notSet)
			}

			write(t, dir, good)
			l.load(t.Context())
			before := must[signature.SignerVerifier](t)(l.RunSigner(t.Context(), signing.TypeX509, chainsconfig.KMSSigner{}))
			write(t, dir, tc.secret)
			l.load(t.Context())
			if after := must[signature.SignerVerifier](t)(l.RunSigner(t.Context(), signing.TypeX509, chainsconfig.KMSSigner{})); after != before {
				t.Error("the signer was replaced by one that is not usable")
			}
		})
	}
}

func TestRunSigner_ConnectsToKMS(t *testing.T) {
	l := NewLoader(t.TempDir(), func() {})
	for ref, want := range map[string]error{fake.ReferenceScheme + "key": nil, "": ErrNotSet, "nosuchkms://key": ErrSigner, panicking: ErrSigner} {
		signer, err := l.RunSigner(t.Context(), signing.TypeKMS, chainsconfig.KMSSigner{KMSRef: ref})
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%q: got %v, want %v", ref, err, want)
		}
		if err == nil && probe(signer) != nil {
			t.Errorf("%q: does not sign", ref)
		}
	}
}

// panicking is a KMS whose client panics.
const panicking = "panickingkms://key"

func init() {
	kms.AddProvider(panicking, func(context.Context, string, crypto.Hash, ...signature.RPCOption) (kms.SignerVerifier, error) {
		panic("the client of the KMS is broken")
	})
}
