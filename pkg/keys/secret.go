// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"crypto"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// FromSecret returns the signing key in the data of a Secret, which has the files that
// the signing secret of Tekton Chains has. place names the Secret in errors. Public keys
// in the Secret do not count. The error wraps ErrNotSet if there is no private key.
func FromSecret(ctx context.Context, place string, data map[string][]byte) (*Key, error) {
	read := files{}
	for name, content := range data {
		if !isKeyFile(name) {
			continue
		}
		if len(content) > maxKeyFile {
			return nil, fmt.Errorf("%s: %s is longer than %d bytes, the maximum for a key file", place, name, maxKeyFile)
		}
		read[name] = file{content: content}
	}
	signer, err := read.signer(place)
	if err != nil {
		return nil, err
	}
	key, err := newSigningKey(ctx, signer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return key, nil
}

// FromPEM returns a key that verifies. It accepts the types of key that Tekton verifies.
func FromPEM(publicKey string) (*Key, error) { return fromPEM(publicKey, newKey) }

// FromRevokedPEM is FromPEM for a revoked key, which can be of any type.
func FromRevokedPEM(publicKey string) (*Key, error) { return fromPEM(publicKey, newVerifyingKey) }

func fromPEM(publicKey string, newKey func(crypto.PublicKey) (*Key, error)) (*Key, error) {
	if len(publicKey) > maxKeyFile {
		return nil, fmt.Errorf("the public key is longer than %d bytes", maxKeyFile)
	}
	public, err := cryptoutils.UnmarshalPEMToPublicKey([]byte(publicKey))
	if err != nil {
		return nil, fmt.Errorf("not a public key in PEM: %w", err)
	}
	return newKey(public)
}

// PEM returns the public key in PEM.
func (k *Key) PEM() (string, error) {
	content, err := cryptoutils.MarshalPublicKeyToPEM(k.public)
	return string(content), err
}

// NewEphemeral returns a new key that signs, and that is gone with the process.
func NewEphemeral(ctx context.Context) (*Key, error) {
	signer, _, err := signature.NewDefaultECDSASignerVerifier()
	if err != nil {
		return nil, err
	}
	return newSigningKey(ctx, signer)
}
