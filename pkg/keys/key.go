// Package keys holds the keys that this installation signs resources with,
// and the ones it signed with before.
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

// ErrSigner says that a key, or the KMS that has it, did not make a signature.
var ErrSigner = errors.New("the signer failed")

// ErrSelfVerification says that a signer returned something that its own
// public key does not verify. It happens when a KMS rotated the key behind our
// back.
var ErrSelfVerification = errors.New("the new signature does not verify with the signer's public key")

// Key is one key of the ring: always a public key, and a signer while it is
// the active one.
type Key struct {
	// ID is "sha256:" and the lower-case hex SHA-256 of the public key's DER
	// SubjectPublicKeyInfo.
	ID string

	public   crypto.PublicKey
	verifier signature.Verifier
	signer   signature.Signer
	calls    patience // of signer
}

// maxSigning bounds the signatures of a key that are being made.
const maxSigning = 64

// KeyID computes Key.ID.
func KeyID(public crypto.PublicKey) (string, error) {
	der, err := cryptoutils.MarshalPublicKeyToDER(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// newKey takes the types of key that Tekton verifies as its verifier loads
// them: with SHA-256 unless an authority says otherwise.
func newKey(public crypto.PublicKey, signer signature.Signer) (*Key, error) {
	switch public.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
	default:
		return nil, fmt.Errorf("found a key of type %T, expected ECDSA or RSA: "+
			"Tekton cannot verify what others sign", public)
	}
	id, err := KeyID(public)
	if err != nil {
		return nil, err
	}
	verifier, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return &Key{ID: id, public: public, verifier: verifier, signer: signer, calls: newPatience(maxSigning)}, nil
}

// PublicKey is the public half, which never is nil.
func (k *Key) PublicKey() crypto.PublicKey { return k.public }

// Verifier verifies as Tekton does.
func (k *Key) Verifier() signature.Verifier { return k.verifier }

// Verify says whether sig is this key's signature over message.
func (k *Key) Verify(sig, message []byte) bool {
	return k.verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil
}

// Sign signs message and verifies the result before it returns it. The error
// wraps ErrSigner, and ErrSelfVerification when it was that.
func (k *Key) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if k.signer == nil {
		return nil, fmt.Errorf("%w: key %s only verifies", ErrSigner, k.ID)
	}
	sig, err := within(ctx, k.calls, func() ([]byte, error) {
		return k.signer.SignMessage(bytes.NewReader(message), options.WithContext(ctx))
	})
	if err != nil {
		return nil, fmt.Errorf("%w: key %s: %w", ErrSigner, k.ID, err)
	}
	if !k.Verify(sig, message) {
		return nil, fmt.Errorf("%w: key %s: %w", ErrSigner, k.ID, ErrSelfVerification)
	}
	return sig, nil
}
