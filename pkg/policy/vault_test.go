// SPDX-License-Identifier: Apache-2.0

//go:build kms

package policy_test

import (
	"bytes"
	"context"
	"crypto"
	"os"
	"testing"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Vault does not accept the same signatures as its latest public key. So the
// verdict must come from Vault: for each type of key, before and after a rotation.
func TestVerify_AgreesWithTektonOnVault(t *testing.T) {
	vault := startVault(t)
	for _, keyType := range []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519"} {
		t.Run(keyType, func(t *testing.T) {
			ref, err := vault.CreateKey(t.Context(), keyType, keyType)
			check(t, err)
			policy := &v1alpha1.VerificationPolicy{Spec: v1alpha1.VerificationPolicySpec{
				Resources:   []v1alpha1.ResourcePattern{{Pattern: ".*"}},
				Authorities: []v1alpha1.Authority{{Name: "kms", Key: &v1alpha1.KeyRef{KMS: ref}}},
			}}
			before := signWith(t, ref)
			compare(t, "before rotation", policy, before)
			check(t, vault.RotateKey(t.Context(), keyType))
			compare(t, "old signature after rotation", policy, before)
			compare(t, "new signature after rotation", policy, signWith(t, ref))
			compare(t, "garbage", policy, "Z2FyYmFnZQ==")
			check(t, vault.Seal(t.Context()))
			defer func() { check(t, vault.Unseal(context.WithoutCancel(t.Context()))) }()
			compare(t, "while sealed", policy, before)
		})
	}
}

func compare(t *testing.T, what string, p *v1alpha1.VerificationPolicy, signature string) {
	t.Helper()
	task := &v1.Task{}
	task.Annotations = map[string]string{trustedresources.SignatureAnnotation: signature}
	policies := []*v1alpha1.VerificationPolicy{p}
	want := trustedresources.VerifyResource(t.Context(), task, nil, nil, policies)
	checksum, err := task.Checksum()
	check(t, err)
	got := policy.NewSet(policies, policy.NewKeys(unrestrictedSources())).
		Verify(t.Context(), policy.Input{Checksum: checksum, Signature: signature})
	if got.Tekton() != want.VerificationResultType {
		t.Errorf("%s: got %+v, Tekton's is %d (%v)", what, got, want.VerificationResultType, want.Err)
	}
	t.Logf("%s: %s %s", what, got.Result, got.Reason)
}

func unrestrictedSources() policy.Sources {
	return policy.Sources{Access: func() policy.Access { return unrestricted{} }, Clock: clock.RealClock{}}
}

type unrestricted struct{}

func (unrestricted) AllowKMS(string) error            { return nil }
func (unrestricted) AllowSecret(string, string) error { return nil }

func signWith(t *testing.T, ref string) string {
	t.Helper()
	signer, err := kms.Get(t.Context(), ref, crypto.SHA256)
	check(t, err)
	checksum, err := (&v1.Task{}).Checksum()
	check(t, err)
	signature, err := signer.SignMessage(bytes.NewReader(checksum))
	check(t, err)
	return resource.EncodeSignature(signature)
}

func startVault(t *testing.T) *harness.Vault {
	t.Helper()
	binary, err := harness.BuildVault(t.Context(), os.Stderr)
	check(t, err)
	vault, err := harness.StartVault(t.Context(), binary, os.Stderr)
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

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
