// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/tektoncd/chains/pkg/chains/signing"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

func noAuth() chainsconfig.KMSAuth { return chainsconfig.KMSAuth{} }

// cloud starts the fake of a service.
type cloud func(*testing.T, fakeKey) (ref string, p *pin, opts []signature.RPCOption)

func withoutOptions(start func(*testing.T, fakeKey) (string, *pin)) cloud {
	return func(t *testing.T, key fakeKey) (string, *pin, []signature.RPCOption) {
		t.Helper()
		ref, p := start(t, key)
		return ref, p, nil
	}
}

var (
	awsFake   = withoutOptions(startFakeAWS)
	azureFake = withoutOptions(startFakeAzure)
)

func TestKMSOfClouds_SignWithThePinnedVersionOnly(t *testing.T) {
	for name, tc := range map[string]struct {
		start cloud
		key   fakeKey
	}{
		"AWS P-256":    {awsFake, ecdsaKey(t, elliptic.P256(), "ECDSA_SHA_256", crypto.SHA256)},
		"AWS RSA-2048": {awsFake, rsaKey(t, "RSASSA_PKCS1_V1_5_SHA_256", false)},
		"GCP P-256":    {startFakeGCP, ecdsaKey(t, elliptic.P256(), "EC_SIGN_P256_SHA256", crypto.SHA256)},
		"GCP RSA-2048": {startFakeGCP, rsaKey(t, "RSA_SIGN_PKCS1_2048_SHA256", false)},
		"Azure P-256":  {azureFake, ecdsaKey(t, elliptic.P256(), "ES256", crypto.SHA256)},
	} {
		t.Run(name, func(t *testing.T) {
			ref, p, opts := tc.start(t, tc.key)
			key, err := keys.NewKMS(noAuth, opts...).Key(t.Context(), ref, "")
			check(t, err)
			want, err := keys.KeyID(tc.key.Public())
			check(t, err)
			if key.ID != want {
				t.Errorf("got key %s, want %s", key.ID, want)
			}
			checkTektonAccepts(t, key)
			p.expectPinned(t)
		})
	}
}

// Tekton verifies over SHA-256, and RSA signatures with PKCS #1 v1.5 only. The probe finds
// out before the key signs anything.
func TestKMSOfClouds_RefuseKeysThatTektonCannotVerify(t *testing.T) {
	for name, tc := range map[string]struct {
		start cloud
		key   fakeKey
		want  string
	}{
		"AWS P-384":      {awsFake, ecdsaKey(t, elliptic.P384(), "ECDSA_SHA_384", crypto.SHA384), "ECDSA P-384"},
		"AWS RSA PSS":    {awsFake, rsaKey(t, "RSASSA_PSS_SHA_256", true), "RSA-2048"},
		"GCP P-384":      {startFakeGCP, ecdsaKey(t, elliptic.P384(), "EC_SIGN_P384_SHA384", crypto.SHA384), "ECDSA P-384"},
		"GCP RSA PSS":    {startFakeGCP, rsaKey(t, "RSA_SIGN_PSS_2048_SHA256", true), "RSA-2048"},
		"Azure P-384":    {azureFake, ecdsaKey(t, elliptic.P384(), "ES384", crypto.SHA384), "ECDSA P-384"},
		"Azure RSA-2048": {azureFake, rsaKey(t, "RS256", false), "RSA-2048"},
	} {
		t.Run(name, func(t *testing.T) {
			ref, p, opts := tc.start(t, tc.key)
			_, err := keys.NewKMS(noAuth, opts...).Key(t.Context(), ref, "")
			if !errors.Is(err, keys.ErrSelfVerification) {
				t.Errorf("got error %v, want %v", err, keys.ErrSelfVerification)
			}
			checkNames(t, err, ref, tc.want, "use an ECDSA P-256 key")
			p.expectPinned(t)
		})
	}
}

// The fakes notice a client that names no version, or an alias. Without that, the tests
// above would show nothing.
func TestKMSOfClouds_FakesNoticeUnpinnedCalls(t *testing.T) {
	p256 := func(algorithm string) fakeKey { return ecdsaKey(t, elliptic.P256(), algorithm, crypto.SHA256) }
	unpin := func(suffix string) func(string) string {
		return func(ref string) string { return strings.TrimSuffix(ref, suffix) }
	}
	for name, tc := range map[string]struct {
		start cloud
		key   fakeKey
		unpin func(ref string) string
	}{
		"AWS":   {awsFake, p256("ECDSA_SHA_256"), func(string) string { return "awskms:///" + fakeAlias }},
		"GCP":   {startFakeGCP, p256("EC_SIGN_P256_SHA256"), unpin("/cryptoKeyVersions/2")},
		"Azure": {azureFake, p256("ES256"), unpin("/" + fakeAzureVersion)},
	} {
		t.Run(name, func(t *testing.T) {
			ref, p, opts := tc.start(t, tc.key)
			unpinned := tc.unpin(ref)
			client, err := kms.Get(t.Context(), unpinned, crypto.SHA256, opts...)
			check(t, err)
			if _, err := client.SignMessage(strings.NewReader("message")); err == nil {
				t.Error("the fake signs without a version")
			}
			if _, unpinned := p.seen(); len(unpinned) == 0 {
				t.Error("the fake noticed no call without a version")
			}
			if _, err := keys.NewKMS(noAuth, opts...).Key(t.Context(), unpinned, ""); err == nil {
				t.Error("a reference without a version was loaded")
			}
		})
	}
}

// The client of Azure keeps the context that it was made with, and uses it for later calls.
func TestLoad_ReadsAKeyOfAzure(t *testing.T) {
	ref, p := startFakeAzure(t, ecdsaKey(t, elliptic.P256(), "ES256", crypto.SHA256))
	ring := keys.Load(t.Context(), t.TempDir(), keys.Settings{
		SignerTypes: []string{signing.TypeKMS}, KMS: chainsconfig.KMSSigner{KMSRef: ref},
	})
	key, err := ring.Active(signing.TypeKMS)
	check(t, err)
	checkTektonAccepts(t, key)
	p.expectPinned(t)
}

// checkTektonAccepts signs a Task and lets Tekton's verifier judge: the signature with the
// key inline in a policy is accepted, and refused for a changed Task and with another key.
func checkTektonAccepts(t *testing.T, key *keys.Key) {
	t.Helper()
	signed := signTask(t, key)
	checkTekton(t, key, signed, true)
	changed := signed.DeepCopy()
	changed.Spec.Description = "changed"
	checkTekton(t, key, changed, false)
	if tektonVerifies(t.Context(), signed, otherPEM(t)) == nil {
		t.Error("Tekton accepts the signature with another key")
	}
}

// checkTekton checks whether Tekton accepts a Task with the public half of a key.
func checkTekton(t *testing.T, key *keys.Key, task *v1.Task, want bool) {
	t.Helper()
	public, err := key.PEM()
	check(t, err)
	if err := tektonVerifies(t.Context(), task, public); (err == nil) != want {
		t.Errorf("key %s: Tekton's verdict is %v, want acceptance: %v", key.ID, err, want)
	}
}

func signTask(t *testing.T, key *keys.Key) *v1.Task {
	t.Helper()
	task := &v1.Task{}
	checksum, err := task.Checksum()
	check(t, err)
	signed, err := key.Sign(t.Context(), checksum)
	check(t, err)
	task.Annotations = map[string]string{trustedresources.SignatureAnnotation: base64.StdEncoding.EncodeToString(signed)}
	return task
}

// tektonVerifies returns nil if Tekton accepts a Task by a policy with this key inline.
func tektonVerifies(ctx context.Context, task *v1.Task, public string) error {
	result := trustedresources.VerifyResource(ctx, task, nil, nil, []*v1alpha1.VerificationPolicy{{Spec: v1alpha1.VerificationPolicySpec{
		Resources:   []v1alpha1.ResourcePattern{{Pattern: ".*"}},
		Authorities: []v1alpha1.Authority{{Name: "inline", Key: &v1alpha1.KeyRef{Data: public}}},
	}}})
	if result.VerificationResultType != trustedresources.VerificationPass {
		return fmt.Errorf("result %d: %w", result.VerificationResultType, result.Err)
	}
	return nil
}

func otherPEM(t *testing.T) string {
	t.Helper()
	other, err := keys.NewVerifyingRing(ecdsaKey(t, elliptic.P256(), "", crypto.SHA256).Public())
	check(t, err)
	public, err := other.Keys()[0].PEM()
	check(t, err)
	return public
}

// checkNames checks that an error has all parts.
func checkNames(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %q", err, part)
		}
	}
}
