// SPDX-License-Identifier: Apache-2.0

package imagesignature

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// MaxBundle bounds the Sigstore bundles that Verify accepts, in bytes of JSON. A
// bundle with a certificate and a log entry has about 10 kB.
const MaxBundle = 1 << 20

// ErrNotVerified means that a Sigstore bundle is not a signature of the image by
// one of the keys.
var ErrNotVerified = errors.New("the signature of the image does not verify")

// Verify verifies a Sigstore bundle with sigstore-go and returns the key that made
// the signature. Unlike cosign, Verify accepts only statements with
// PredicateType: an attestation about the image is not a signature of the image.
// The error wraps ErrNotVerified.
func Verify(bundle []byte, image digest.Digest, keys []*keys.Key) (*keys.Key, error) {
	if len(bundle) > MaxBundle {
		return nil, fmt.Errorf("%w: a bundle of %d bytes, expected at most %d", ErrNotVerified, len(bundle), MaxBundle)
	}
	var entity sgbundle.Bundle
	if err := entity.UnmarshalJSON(bundle); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotVerified, err)
	}
	sum, err := hex.DecodeString(image.Encoded())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotVerified, err)
	}
	policy := verify.NewPolicy(verify.WithArtifactDigest(image.Algorithm().String(), sum), verify.WithKey())
	failures := []error{ErrNotVerified}
	for _, key := range keys {
		result, err := verifyWith(&entity, key, policy)
		if err != nil {
			failures = append(failures, fmt.Errorf("key %s: %w", key.ID, err))
			continue
		}
		if result.Statement.GetPredicateType() != PredicateType {
			return nil, fmt.Errorf("%w: found a statement of type %.80q, expected %q", ErrNotVerified, result.Statement.GetPredicateType(), PredicateType)
		}
		return key, nil
	}
	return nil, errors.Join(failures...)
}

// verifyWith verifies a Sigstore bundle with one key.
func verifyWith(entity verify.SignedEntity, key *keys.Key, policy verify.PolicyBuilder) (*verify.VerificationResult, error) {
	neverExpires := root.NewExpiringKey(key.Verifier(), time.Time{}, time.Time{})
	trusted := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return neverExpires, nil })
	verifier, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	if err != nil {
		return nil, err
	}
	return verifier.Verify(entity, policy)
}
