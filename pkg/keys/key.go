// SPDX-License-Identifier: Apache-2.0

// Package keys holds the key ring: the keys that sign resources, and the keys
// that signed resources before. It also bounds the calls to a KMS.
package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// ErrSigner means that a key, or the KMS that holds the key, made no usable
// signature.
var ErrSigner = errors.New("the signer failed")

// ErrSelfVerification means that the public key of a signer does not verify the
// signer's new signature. This happens when a KMS rotates a key after its public
// key was read.
var ErrSelfVerification = errors.New("the new signature does not verify with the signer's public key")

// Key is one key of the ring. It always has a public key; it has a signer only
// while it is an active key.
type Key struct {
	// ID is "sha256:" and the lower-case hex SHA-256 of the public key's DER
	// SubjectPublicKeyInfo.
	ID string

	public   crypto.PublicKey
	place    string // of a key in a KMS, for errors
	verifier signature.Verifier
	signer   signature.Signer // nil for a key that only verifies
}

// KeyID returns the value of Key.ID for a public key.
func KeyID(public crypto.PublicKey) (string, error) {
	der, err := cryptoutils.MarshalPublicKeyToDER(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// newKey returns a key that verifies. It accepts the types of key that Tekton
// verifies.
func newKey(public crypto.PublicKey) (*Key, error) {
	switch public.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
		return newVerifyingKey(public)
	default:
		return nil, fmt.Errorf("found a key of type %T, expected ECDSA or RSA: "+
			"Tekton cannot verify signatures of other keys", public)
	}
}

// newVerifyingKey returns a key of any type. SHA-256 is the hash that Tekton's
// verifier uses unless an authority names another hash.
func newVerifyingKey(public crypto.PublicKey) (*Key, error) {
	id, err := KeyID(public)
	if err != nil {
		return nil, err
	}
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return &Key{ID: id, public: public, verifier: verifier}, nil
}

// newSigningKey returns the key of a signer. To prove that Tekton can verify the
// signer's signatures, the signer signs a test message.
func newSigningKey(ctx context.Context, signer signature.Signer) (*Key, error) {
	public, err := signer.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	key, err := newKey(public)
	if err != nil {
		return nil, err
	}
	key.signer = signer
	_, err = key.Sign(ctx, []byte("probe"))
	if errors.Is(err, ErrSelfVerification) {
		return nil, fmt.Errorf("%w: Tekton verifies ECDSA signatures and RSA PKCS #1 v1.5 signatures over SHA-256, "+
			"and the signer signs with this %s key in another way; use an ECDSA P-256 key", err, keyType(public))
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

// keyType describes the type of a key, such as "ECDSA P-384".
func keyType(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", key.N.BitLen())
	default:
		return fmt.Sprintf("%T", public)
	}
}

// PublicKey returns the public key. It is never nil.
func (k *Key) PublicKey() crypto.PublicKey { return k.public }

// Verifier returns a verifier that accepts the same signatures as Tekton's.
func (k *Key) Verifier() signature.Verifier { return k.verifier }

// Verify reports whether sig is a signature of this key over message.
func (k *Key) Verify(sig, message []byte) bool {
	return k.verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil
}

// Sign signs message and verifies the signature before it returns it. Every
// error wraps ErrSigner; the error also wraps ErrSelfVerification when the public
// key does not verify the signature.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if k.signer == nil {
		return nil, fmt.Errorf("%w: %s only verifies", ErrSigner, k.name())
	}
	if err := ctx.Err(); err != nil { // signers with a local key ignore the context
		return nil, fmt.Errorf("%w: %s: %w", ErrSigner, k.name(), err)
	}
	sig, err := k.signer.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSigner, k.name(), err)
	}
	if !k.Verify(sig, message) {
		return nil, fmt.Errorf("%w: %s: %w", ErrSigner, k.name(), ErrSelfVerification)
	}
	return sig, nil
}

// name names the key in errors.
func (k *Key) name() string {
	if k.place != "" {
		return fmt.Sprintf("key %s (%s)", k.ID, k.place)
	}
	return "key " + k.ID
}
