// Package imagesignature signs image digests as cosign does: with an in-toto statement
// in a Sigstore bundle, which is attached to the image as an OCI referrer.
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

// PredicateType of the statements: that of cosign's sign command.
const PredicateType = types.CosignSignPredicateType

// MediaType of the bundles, which is also the artifact type of their referrers.
var MediaType = func() string {
	mediaType, err := sgbundle.MediaTypeString("v0.3")
	if err != nil {
		panic(err) // a constant of the library's own
	}
	return mediaType
}()

// Options say who else is to witness a signature.
type Options struct {
	// RekorURL is a transparency log; empty: none.
	RekorURL string
}

// Sign signs the digest of an image and returns the bundle, in JSON. Its
// signature has been verified.
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
	how := sign.BundleOptions{Context: ctx}
	if options.RekorURL != "" {
		how.TransparencyLogs = []sign.Transparency{rekor{sign.NewRekor(&sign.RekorOptions{BaseURL: options.RekorURL}), options.RekorURL}}
	}
	signed, err := sign.Bundle(&sign.DSSEData{Data: payload, PayloadType: types.IntotoPayloadType}, keypair{key}, how)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", image, err)
	}
	return protojson.Marshal(signed)
}

// rekor keeps what a log answers from ending the process: the library follows
// pointers of the entry without looking.
type rekor struct {
	sign.Transparency
	url string
}

// GetTransparencyLogEntry implements sign.Transparency.
func (r rekor) GetTransparencyLogEntry(ctx context.Context, key []byte, b *protobundle.Bundle) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("its answer is no entry of a log")
		}
		if err != nil {
			err = fmt.Errorf("transparency log %s: %w", r.url, err)
		}
	}()
	return r.Transparency.GetTransparencyLogEntry(ctx, key, b)
}

// keypair has a key of the ring sign for sigstore-go.
type keypair struct{ key *keys.Key }

var _ sign.Keypair = keypair{}

// GetHashAlgorithm implements sign.Keypair.
func (keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

// GetSigningAlgorithm implements sign.Keypair. Nothing that is used here asks.
func (keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PUBLIC_KEY_DETAILS_UNSPECIFIED
}

// GetHint implements sign.Keypair, in cosign's form
// (pkg/cosign/bundle/protobundle.go): the base64 SHA-256 of the key.
func (k keypair) GetHint() []byte {
	der, err := cryptoutils.MarshalPublicKeyToDER(k.key.PublicKey())
	if err != nil {
		return nil // no hint; the ring takes no such key
	}
	sum := sha256.Sum256(der)
	return []byte(base64.StdEncoding.EncodeToString(sum[:]))
}

// GetKeyAlgorithm implements sign.Keypair. Only certificate authorities ask.
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
