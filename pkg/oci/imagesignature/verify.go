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

// MaxBundle bounds the bundles that are read, in bytes of JSON. One with a
// certificate and an entry of a transparency log takes about 10 kB.
const MaxBundle = 1 << 20

// ErrNotVerified says that a bundle is no signature of an image by a key that
// is trusted.
var ErrNotVerified = errors.New("the signature of the image does not verify")

// Verify finds the key whose signature of the image a bundle is, with
// sigstore-go's verifier. Unlike cosign, it wants a statement made to sign an
// image: an attestation about it is none. The error wraps ErrNotVerified.
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

func verifyWith(entity verify.SignedEntity, key *keys.Key, policy verify.PolicyBuilder) (*verify.VerificationResult, error) {
	always := root.NewExpiringKey(key.Verifier(), time.Time{}, time.Time{})
	trusted := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return always, nil })
	verifier, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	if err != nil {
		return nil, err
	}
	return verifier.Verify(entity, policy)
}
