package oci

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
)

// What cosign writes on its referrers (pkg/oci/remote/write.go in
// sigstore/cosign).
const (
	contentAnnotation       = "dev.sigstore.bundle.content"
	contentDSSE             = "dsse-envelope"
	predicateTypeAnnotation = "dev.sigstore.bundle.predicateType"
)

// attach signs an image and attaches the signature to it. It is there for
// readers when attach returns.
func attach(ctx context.Context, repository *registry.Repository, subject ocispec.Descriptor, key *keys.Key, log imagesignature.Options) error {
	signature, err := imagesignature.Sign(ctx, subject.Digest, key, log)
	if err != nil {
		return err
	}
	layer := registry.NewBlob(imagesignature.MediaType, signature)
	subject = ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
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
		repository.ForgetSharedBlobs() // the registry may have lost what it once took
		return err
	}
	return nil
}
