// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// signingSecret is the Secret whose key signs without a KeyRing, and signs Chains'
// attestations with and without.
const signingSecret = "signing-secrets"

// secretName returns the name of the Secret for a generated key.
func secretName(ring, key string) string { return "key-" + ring + "-" + key }

// keyOf is the value of v1alpha1.KeyAnnotation on the Secret of a generated key.
func keyOf(ring, key string) string { return ring + "/" + key }

// makeSecret makes a key in a new Secret, and returns the public half in PEM. If an
// earlier call of the command made the Secret, the key in the Secret counts.
func (g *generation) makeSecret(ctx context.Context) (publicKey string, err error) {
	secret, err := newKeySecret(g.ring, g.name)
	if err != nil {
		return "", err
	}
	_, err = g.secrets.Create(ctx, secret, metav1.CreateOptions{FieldManager: fieldManager, DryRun: dryRunOf(g.dryRun)})
	switch {
	case apierrors.IsAlreadyExists(err):
		return g.readSecret(ctx, secret.Name)
	case err != nil:
		return "", g.explain(err, "create", "secrets")
	}
	g.say("Secret %s/%s has the new key%s", g.namespace, secret.Name, dryRunNote(g.dryRun))
	return string(secret.Data[publicFile]), nil
}

// Files of a Secret, as cosign generate-key-pair names them.
const (
	privateFile  = "cosign.key"
	passwordFile = "cosign.password"
	publicFile   = "cosign.pub"
)

// newKeySecret returns an immutable Secret with a new key.
func newKeySecret(ring, key string) (*corev1.Secret, error) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // it never returns an error
	password := []byte(base64.RawURLEncoding.EncodeToString(random))
	pair, err := cosign.GenerateKeyPair(func(bool) ([]byte, error) { return password, nil })
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:        secretName(ring, key),
			Labels:      map[string]string{"app.kubernetes.io/part-of": "tekton-chains"},
			Annotations: map[string]string{v1alpha1.KeyAnnotation: keyOf(ring, key)},
		},
		Immutable: new(true),
		Data:      map[string][]byte{privateFile: pair.PrivateBytes, passwordFile: password, publicFile: pair.PublicBytes},
	}, nil
}

// readSecret returns the public half of the key that an earlier call put into a Secret.
func (g *generation) readSecret(ctx context.Context, name string) (publicKey string, err error) {
	where := fmt.Sprintf("Secret %s/%s", g.namespace, name)
	giveUp := fmt.Sprintf("delete the Secret if nobody needs it (kubectl --namespace %s delete secret %s), or choose another --name", g.namespace, name)
	found, err := g.secrets.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return "", fmt.Errorf("%s exists, KeyRing %s does not name it, and this account may not read it: "+
			"repeat the command with an account that may get the Secret; or %s: %w", where, g.ring, giveUp, err)
	case err != nil:
		return "", g.explain(err, "get", "secrets")
	case found.Annotations[v1alpha1.KeyAnnotation] != keyOf(g.ring, g.name) || !ptr.Deref(found.Immutable, false):
		return "", fmt.Errorf("%s exists, and tkn-trust key generate did not make it for key %q of KeyRing %s (expected an immutable Secret "+
			"with the annotation %s: %s); %s", where, g.name, g.ring, v1alpha1.KeyAnnotation, keyOf(g.ring, g.name), giveUp)
	}
	key, err := keys.FromSecret(ctx, where, found.Data)
	if err != nil {
		return "", fmt.Errorf("%w; %s", err, giveUp)
	}
	g.say("%s has the key of an earlier call of the command", where)
	return key.PEM()
}
