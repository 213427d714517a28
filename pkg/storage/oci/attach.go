package oci

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/image"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/registry"
	"github.com/trusted-resources/chains-extension/pkg/sigstore"
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
func attach(ctx context.Context, repository *registry.Repository, subject ocispec.Descriptor, key *keyring.Key, witnesses sigstore.Options) error {
	signature, err := sigstore.Sign(ctx, subject.Digest, key, witnesses)
	if err != nil {
		return err
	}
	layer := image.NewBlob(sigstore.MediaType, signature)
	subject = ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}
	referrer, err := image.NewManifest(sigstore.MediaType, layer, &subject, map[string]string{
		ocispec.AnnotationCreated: time.Now().UTC().Format(time.RFC3339),
		contentAnnotation:         contentDSSE,
		predicateTypeAnnotation:   sigstore.PredicateType,
	})
	if err != nil {
		return err
	}
	if err := repository.PushSharedBlob(ctx, image.Empty); err != nil {
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
