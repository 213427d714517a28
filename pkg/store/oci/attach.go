// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
)

// Annotations that cosign writes on its referrers (pkg/oci/remote/write.go in
// sigstore/cosign).
const (
	contentAnnotation       = "dev.sigstore.bundle.content"
	contentDSSE             = "dsse-envelope"
	predicateTypeAnnotation = "dev.sigstore.bundle.predicateType"
)

// attachSignature signs an image and writes the signature as a referrer of the
// image. When attachSignature returns, the registry lists the signature.
func attachSignature(ctx context.Context, repository *registry.Repository, image ocispec.Descriptor, key *keys.Key, options imagesignature.Options) error {
	signature, err := imagesignature.Sign(ctx, image.Digest, key, options)
	if err != nil {
		return err
	}
	layer := registry.NewBlob(imagesignature.MediaType, signature)
	subject := ocispec.Descriptor{MediaType: image.MediaType, Digest: image.Digest, Size: image.Size} // without annotations
	referrer, err := registry.NewManifest(imagesignature.MediaType, layer, &subject, map[string]string{
		ocispec.AnnotationCreated: time.Now().UTC().Format(time.RFC3339),
		contentAnnotation:         contentDSSE,
		predicateTypeAnnotation:   imagesignature.PredicateType,
	})
	if err != nil {
		return err
	}
	if err := repository.PushSharedBlob(ctx, registry.EmptyConfig); err != nil {
		return err
	}
	if err := repository.PushBlob(ctx, layer); err != nil {
		return err
	}
	if err := repository.PushReferrer(ctx, referrer, subject.Digest); err != nil {
		repository.ForgetSharedBlobs() // the registry may have lost a blob and reject the manifest
		return err
	}
	return nil
}
