// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
)

// maxSignatures bounds the signatures of one image that are read.
const maxSignatures = 50

// errOtherReferrer means that a referrer is not a signature.
var errOtherReferrer = errors.New("the referrer is not a Sigstore bundle")

// verifySignatures sets Signers and Unverified from the referrers of the image.
// An invalid signature is not an error, because anybody who may push to the
// repository may attach one.
func (i *Image) verifySignatures(ctx context.Context, repository *registry.Repository, image digest.Digest, trusted *keys.Ring) error {
	referrers, err := repository.Referrers(ctx, image)
	if err != nil {
		return err
	}
	referrers = slices.DeleteFunc(referrers, func(d ocispec.Descriptor) bool { return !mayBeSignature(d) })
	if len(referrers) > maxSignatures {
		i.Unverified = append(i.Unverified, fmt.Errorf("%d signatures, of which %d were read", len(referrers), maxSignatures))
		referrers = referrers[:maxSignatures]
	}
	for _, referrer := range referrers {
		signature, err := readSignature(ctx, repository, referrer, image)
		if registry.Unavailable(err) {
			return err
		}
		if errors.Is(err, errOtherReferrer) {
			continue
		}
		var key *keys.Key
		if err == nil {
			key, err = imagesignature.Verify(signature, image, trusted.Keys())
		}
		if err != nil {
			i.Unverified = append(i.Unverified, fmt.Errorf("referrer %s: %w", referrer.Digest, err))
			continue
		}
		if !slices.Contains(i.Signers, key.ID) {
			i.Signers = append(i.Signers, key.ID)
		}
	}
	return nil
}

// mayBeSignature reports whether the artifact type in a list of referrers allows
// a signature. Some registries report no type, or the media type of the
// configuration. The manifest of the referrer decides then.
func mayBeSignature(d ocispec.Descriptor) bool {
	switch d.ArtifactType {
	case imagesignature.MediaType, "", registry.EmptyConfig.Descriptor.MediaType, ocispec.MediaTypeImageConfig:
		return true
	}
	return false
}

// readSignature returns the Sigstore bundle of a referrer. The error is
// errOtherReferrer if the referrer is not a signature.
func readSignature(ctx context.Context, repository *registry.Repository, referrer ocispec.Descriptor, image digest.Digest) ([]byte, error) {
	blob, err := repository.Manifest(ctx, referrer.Digest.String())
	if err != nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(blob.Content, &manifest); err != nil {
		return nil, err
	}
	if len(manifest.Layers) == 0 || manifest.Layers[0].MediaType != imagesignature.MediaType {
		return nil, errOtherReferrer
	}
	if manifest.Subject == nil || manifest.Subject.Digest != image {
		return nil, errors.New("its subject is another image")
	}
	return layerContent(ctx, repository, manifest.Layers[0], imagesignature.MaxBundle)
}
