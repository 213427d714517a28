// SPDX-License-Identifier: Apache-2.0

// Package imagesignature signs and verifies image digests as cosign does: the
// signature is an in-toto statement in a Sigstore bundle. Package store/oci
// attaches the bundle to the image as an OCI referrer.
package imagesignature

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/sigstore/cosign/v2/pkg/types"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// PredicateType is the predicate type of the statements: the one of the command
// cosign sign.
const PredicateType = types.CosignSignPredicateType

// MediaType is the media type of Sigstore bundles. It is also the artifact type of
// their referrers.
var MediaType = func() string {
	mediaType, err := sgbundle.MediaTypeString("v0.3")
	if err != nil {
		panic(err) // v0.3 is a constant of sigstore-go
	}
	return mediaType
}()

// Options configure Sign.
type Options struct {
	// RekorURL is the URL of the transparency log (Rekor) that records each
	// signature; empty: no log.
	RekorURL string
}

// Sign signs the digest of an image and returns the Sigstore bundle in JSON.
// Key.Sign has verified the signature.
func Sign(ctx context.Context, image digest.Digest, key *keys.Key, options Options) ([]byte, error) {
	statement := &intoto.Statement{
		Type:          intoto.StatementTypeUri,
		Subject:       []*intoto.ResourceDescriptor{{Digest: map[string]string{image.Algorithm().String(): image.Encoded()}}},
		PredicateType: PredicateType,
		Predicate:     &structpb.Struct{},
	}
	payload, err := protojson.Marshal(statement)
	if err != nil {
		return nil, err
	}
	bundleOptions := sign.BundleOptions{Context: ctx}
	if options.RekorURL != "" {
		log := sign.NewRekor(&sign.RekorOptions{BaseURL: options.RekorURL})
		bundleOptions.TransparencyLogs = []sign.Transparency{recoveringLog{log, options.RekorURL}}
	}
	bundle, err := sign.Bundle(&sign.DSSEData{Data: payload, PayloadType: types.IntotoPayloadType}, keypair{key}, bundleOptions)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", image, err)
	}
	return protojson.Marshal(bundle)
}

// recoveringLog recovers the panics of sigstore-go, which dereferences nil fields
// of malformed log responses. Its errors name the URL of the log.
type recoveringLog struct {
	sign.Transparency
	url string
}

// GetTransparencyLogEntry implements sign.Transparency.
func (l recoveringLog) GetTransparencyLogEntry(ctx context.Context, key []byte, b *protobundle.Bundle) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the response is not a log entry")
		}
		if err != nil {
			err = fmt.Errorf("transparency log %s: %w", l.url, err)
		}
	}()
	return l.Transparency.GetTransparencyLogEntry(ctx, key, b)
}

// keypair adapts a key of the key ring to sigstore-go.
type keypair struct{ key *keys.Key }

var _ sign.Keypair = keypair{}

// GetHashAlgorithm implements sign.Keypair.
func (keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

// GetSigningAlgorithm implements sign.Keypair. sigstore-go calls it only to request
// a certificate.
func (keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PUBLIC_KEY_DETAILS_UNSPECIFIED
}

// GetHint implements sign.Keypair. As in cosign (pkg/cosign/bundle/protobundle.go),
// the hint is the base64 SHA-256 of the public key in DER.
func (k keypair) GetHint() []byte {
	der, err := cryptoutils.MarshalPublicKeyToDER(k.key.PublicKey())
	if err != nil {
		return nil // impossible: the key ring only holds keys that can be encoded
	}
	sum := sha256.Sum256(der)
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

// GetKeyAlgorithm implements sign.Keypair. sigstore-go calls it only to request a
// certificate.
func (keypair) GetKeyAlgorithm() string { return "" }

// GetPublicKey implements sign.Keypair.
func (k keypair) GetPublicKey() crypto.PublicKey { return k.key.PublicKey() }

// GetPublicKeyPem implements sign.Keypair.
func (k keypair) GetPublicKeyPem() (string, error) {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(k.key.PublicKey())
	return string(pem), err
}

// SignData implements sign.Keypair.
func (k keypair) SignData(ctx context.Context, data []byte) (sig, hash []byte, err error) {
	sum := sha256.Sum256(data)
	sig, err = k.key.Sign(ctx, data)
	return sig, sum[:], err
}
