// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

func TestSeparate_NamesASharedKey(t *testing.T) {
	broken := errors.New("not a key")
	for name, tc := range map[string]struct {
		state v1alpha1.KeyState
		keyID string
		err   error
		want  metav1.ConditionStatus
	}{
		"another key":             {v1alpha1.KeyActive, "sha256:other", nil, metav1.ConditionTrue},
		"active":                  {v1alpha1.KeyActive, "sha256:chains", nil, metav1.ConditionFalse},
		"pending":                 {v1alpha1.KeyPending, "sha256:chains", nil, metav1.ConditionFalse},
		"retiring":                {v1alpha1.KeyRetiring, "sha256:chains", nil, metav1.ConditionFalse},
		"retired":                 {v1alpha1.KeyRetired, "sha256:chains", nil, metav1.ConditionTrue},
		"revoked":                 {v1alpha1.KeyRevoked, "sha256:chains", nil, metav1.ConditionTrue},
		"shared, others unknown":  {v1alpha1.KeyActive, "sha256:chains", broken, metav1.ConditionFalse},
		"unknown attestation key": {v1alpha1.KeyActive, "sha256:other", broken, metav1.ConditionUnknown},
		"unknown key of the ring": {v1alpha1.KeyPending, "", nil, metav1.ConditionUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			status := ring("default", v1alpha1.RingKeyStatus{Name: "k", State: tc.state, KeyID: tc.keyID}).Status
			if got := separate(&status, []string{"sha256:chains"}, tc.err); got.Status != tc.want {
				t.Errorf("got %+v, want %s", got, tc.want)
			}
		})
	}
}

func TestAttestationKeys_AreThoseOfTheSigningSecret(t *testing.T) {
	dir := t.TempDir()
	ids := func(types ...string) ([]string, error) {
		return attestationKeys(keys.Load(t.Context(), dir, keys.Settings{}), types)
	}
	if got, err := ids("x509"); err != nil || len(got) != 0 {
		t.Errorf("without a key: got %v and %v", got, err)
	}
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	if err := secret.Write(dir); err != nil {
		t.Fatal(err)
	}
	want, err := keys.KeyID(public)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ids(); err != nil || strings.Join(got, ",") != want {
		t.Errorf("got %v and %v, want %s", got, err, want)
	}
	if _, err := ids("kms"); err == nil {
		t.Error("the key of a KMS that was not loaded counts as known")
	}
	if err := (fixtures.Secret{"x509.pem": []byte("garbage")}).Write(dir); err != nil {
		t.Fatal(err)
	}
	if got, err := ids(); err == nil {
		t.Errorf("with a broken file: got %v, want an error", got)
	}
}
