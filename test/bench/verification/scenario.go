// SPDX-License-Identifier: Apache-2.0

// Package verification builds resources and policies that measure the time and
// memory of verification, ours and that of Tekton.
package verification

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/kms"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// The places where keys can be.
const (
	Inline    = "inline"
	SecretRef = "secretRef"
	KMS       = "KMS"
)

// KMSVariable is the environment variable with the reference to the key for
// scenarios with a KMS. sigstore reads the credentials from its own variables.
const KMSVariable = "VERIFICATION_KMS"

const (
	namespace = "ns"
	source    = "git+https://git.example/catalog.git"
)

// Scenario is a Task with a good signature and the policies of its namespace.
type Scenario struct {
	Steps    int    `json:"steps"`
	Policies int    `json:"policies"`
	Matching int    `json:"matching"` // policies that match the Task; all trust its key
	Key      string `json:"key"`      // the place of all keys
}

// Scenarios returns all scenarios. withKMS adds those with keys in a KMS.
func Scenarios(withKMS bool) []Scenario {
	places := []string{Inline, SecretRef}
	if withKMS {
		places = append(places, KMS)
	}
	all := make([]Scenario, 0, 10*len(places))
	for _, steps := range []int{1, 50} {
		for _, place := range places {
			all = append(all, Scenario{steps, 1, 1, place})
			for _, policies := range []int{5, 20} {
				all = append(all, Scenario{steps, policies, 1, place}, Scenario{steps, policies, policies, place})
			}
		}
	}
	return all
}

func (s Scenario) String() string {
	return fmt.Sprintf("steps=%d/policies=%d/matching=%d/%s", s.Steps, s.Policies, s.Matching, s.Key)
}

// signer signs. Its public key is in pem, or in the KMS at kms.
type signer struct {
	signature.Signer
	pem []byte
	kms string
}

func newSigner(ctx context.Context, s Scenario, kmsRef string) (signer, error) {
	if s.Key == KMS {
		remote, err := kms.Get(ctx, kmsRef, crypto.SHA256)
		return signer{Signer: remote, kms: kmsRef}, err
	}
	return newLocalSigner()
}

// another returns a signer with another key. The KMS has only one key.
func (k signer) another() (signer, error) {
	if k.kms != "" {
		return k, nil
	}
	return newLocalSigner()
}

func newLocalSigner() (signer, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signer{}, err
	}
	local, err := signature.LoadECDSASigner(private, crypto.SHA256)
	if err != nil {
		return signer{}, err
	}
	pem, err := cryptoutils.MarshalPublicKeyToPEM(private.Public())
	return signer{Signer: local, pem: pem}, err
}

// sign sets the defaults first, as Tekton does before a verification.
func (k signer) sign(ctx context.Context, task *v1.Task) error {
	task.SetDefaults(ctx)
	checksum, err := task.Checksum()
	if err != nil {
		return err
	}
	sig, err := k.SignMessage(bytes.NewReader(checksum))
	task.Annotations = map[string]string{trustedresources.SignatureAnnotation: resource.EncodeSignature(sig)}
	return err
}

func newTask(steps int) *v1.Task {
	task := &v1.Task{ObjectMeta: metav1.ObjectMeta{Name: "task", Namespace: namespace}}
	for i := range steps {
		task.Spec.Steps = append(task.Spec.Steps, v1.Step{
			Name: fmt.Sprintf("step-%d", i), Image: "registry.example/builder:v1", WorkingDir: "$(workspaces.source.path)",
			Env:    []corev1.EnvVar{{Name: "VERBOSE", Value: "true"}},
			Script: "#!/bin/sh\nset -e\n" + strings.Repeat("make build && make test && make install\n", 5),
		})
	}
	return task
}

// policies returns the policies of the scenario and their Secrets. Each policy has
// its own Secret. The policies that do not match have different keys, except in a
// KMS.
func (k signer) policies(s Scenario) (policies []*v1alpha1.VerificationPolicy, secrets []runtime.Object, err error) {
	matching := k
	for i := range s.Policies {
		name := fmt.Sprintf("policy-%02d", i)
		pattern := "https://git.example/catalog.*"
		k = matching
		if i >= s.Matching {
			pattern = fmt.Sprintf("https://git.example/other-%d/.*", i)
			if k, err = matching.another(); err != nil {
				return nil, nil, err
			}
		}
		policies = append(policies, &v1alpha1.VerificationPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, UID: types.UID("uid-" + name), ResourceVersion: "1"},
			Spec: v1alpha1.VerificationPolicySpec{
				Mode:        v1alpha1.ModeEnforce,
				Resources:   []v1alpha1.ResourcePattern{{Pattern: pattern}},
				Authorities: []v1alpha1.Authority{{Name: "authority", Key: k.ref(s.Key, name)}},
			},
		})
		secrets = append(secrets, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Data: map[string][]byte{"cosign.pub": k.pem},
		})
	}
	return policies, secrets, nil
}

func (k signer) ref(place, secret string) *v1alpha1.KeyRef {
	switch place {
	case KMS:
		return &v1alpha1.KeyRef{KMS: k.kms}
	case SecretRef:
		return &v1alpha1.KeyRef{SecretRef: &corev1.SecretReference{Namespace: namespace, Name: secret}}
	default:
		return &v1alpha1.KeyRef{Data: string(k.pem)}
	}
}
