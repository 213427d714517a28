// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Image is a Tekton bundle in a registry with the result of its verification.
type Image struct {
	// Reference is the repository and the digest.
	Reference string
	// Signers are the IDs of the trusted keys that signed the image.
	Signers []string
	// Unverified holds one error for each signature of the image that does not
	// count.
	Unverified []error
	// Resources are in the order of the layers.
	Resources []Resource
}

// Resource is one resource of a bundle with the result of its verification.
type Resource struct {
	Object resource.Object
	// Checksums are Tekton's checksums of the resource with defaults.
	Checksums resource.Checksums
	// Signer is the ID of the trusted key that signed the resource (annotation
	// tekton.dev/signature) for any release of Tekton; empty if no trusted key signed it.
	Signer string
	// signed is the dialect of the checksum that Signer signed.
	signed tekton.Dialect
}

// CheckTrust returns nil if a trusted key signed the image and a trusted key
// signed every resource in the image. Otherwise the error wraps ErrNotTrusted.
// This method is the only place that decides whether an image is trusted.
func (i *Image) CheckTrust() error {
	if len(i.Signers) == 0 {
		return fmt.Errorf("%s is %w: found no signature of the image by a trusted key: %w",
			i.Reference, ErrNotTrusted, errors.Join(i.Unverified...))
	}
	for _, r := range i.Resources {
		if r.Signer == "" {
			return fmt.Errorf("%s is %w: %s in the bundle is not signed with a trusted key", i.Reference, ErrNotTrusted, IDOf(r.Object))
		}
	}
	return nil
}

// CheckNamespace returns nil if every resource in the image belongs to the
// namespace. Otherwise the error wraps ErrNamespace. A signature does not say where
// an image belongs: a resource that was signed in one namespace can be copied to the
// repository of another.
func (i *Image) CheckNamespace(namespace string) error {
	for _, r := range i.Resources {
		if id := IDOf(r.Object); id.Namespace != namespace {
			return fmt.Errorf("%s holds %w: found %s, expected only resources of namespace %s", i.Reference, ErrNamespace, id, namespace)
		}
	}
	return nil
}

// CheckDialect returns nil if a trusted key signed every resource in the image in a
// dialect. Otherwise the error wraps ErrNotTrusted or ErrDialect.
func (i *Image) CheckDialect(dialect tekton.Dialect) error {
	for _, r := range i.Resources {
		switch id := IDOf(r.Object); {
		case r.Signer == "":
			return fmt.Errorf("%s is %w: %s in the bundle is not signed with a trusted key", i.Reference, ErrNotTrusted, id)
		case !slices.Contains(r.Dialects(), dialect):
			return fmt.Errorf("%s holds a resource %w: found %s for %v, expected %s", i.Reference, ErrDialect, id, r.Dialects(), dialect)
		}
	}
	return nil
}

// Resource returns the resource with this ID and checksum, nil if there is none.
// nil as checksum means any.
func (i *Image) Resource(id ID, checksum []byte) *Resource {
	at := slices.IndexFunc(i.Resources, func(r Resource) bool {
		return IDOf(r.Object) == id && (checksum == nil || len(r.Checksums.With(checksum)) > 0)
	})
	if at < 0 {
		return nil
	}
	return &i.Resources[at]
}

// Inspect reads and verifies any bundle by its reference (repository:tag or
// repository@digest). The bundle need not come from Put, and need not be signed:
// CheckTrust decides that. The error wraps ErrNotFound if the registry has no
// such bundle.
func Inspect(ctx context.Context, client *registry.Client, reference string, trusted *keys.Ring) (*Image, error) {
	repository, manifest, err := openBundle(ctx, client, reference)
	if err != nil {
		return nil, err
	}
	return inspect(ctx, repository, manifest, trusted)
}

// Sign attaches a signature to any bundle and returns the reference of the
// bundle by digest. The bundle need not come from Put.
func Sign(ctx context.Context, client *registry.Client, reference string, key *keys.Key, options imagesignature.Options) (string, error) {
	repository, manifest, err := openBundle(ctx, client, reference)
	if err != nil {
		return "", err
	}
	// Only a well-formed bundle gets a signature.
	if _, err := readResources(ctx, repository, manifest, &keys.Ring{}); err != nil {
		return "", err
	}
	return referenceTo(repository, manifest), attachSignature(ctx, repository, manifest.Descriptor, key, options)
}

func openBundle(ctx context.Context, client *registry.Client, reference string) (*registry.Repository, registry.Blob, error) {
	name, version, err := registry.ParseReference(reference)
	if err != nil {
		return nil, registry.Blob{}, err
	}
	repository, err := client.Repository(ctx, name)
	if err != nil {
		return nil, registry.Blob{}, err
	}
	manifest, err := repository.Manifest(ctx, version)
	if registry.IsNotFound(err) {
		return nil, registry.Blob{}, fmt.Errorf("%s is %w", reference, ErrNotFound)
	}
	return repository, manifest, err
}

func referenceTo(repository *registry.Repository, manifest registry.Blob) string {
	return repository.Name() + "@" + manifest.Descriptor.Digest.String()
}

func inspect(ctx context.Context, repository *registry.Repository, manifest registry.Blob, trusted *keys.Ring) (*Image, error) {
	resources, err := readResources(ctx, repository, manifest, trusted)
	if err != nil {
		return nil, err
	}
	found := &Image{Reference: referenceTo(repository, manifest), Resources: resources}
	return found, found.verifySignatures(ctx, repository, manifest.Descriptor.Digest, trusted)
}

// readResources reads all resources of a bundle and verifies their signatures.
func readResources(ctx context.Context, repository *registry.Repository, manifest registry.Blob, trusted *keys.Ring) ([]Resource, error) {
	if !tektonbundle.IsManifest(manifest.Descriptor.MediaType) {
		return nil, fmt.Errorf("%s: %w: the media type is %.80q, expected an image manifest",
			referenceTo(repository, manifest), tektonbundle.ErrMalformed, manifest.Descriptor.MediaType)
	}
	entries, err := tektonbundle.Entries(manifest.Content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", referenceTo(repository, manifest), err)
	}
	resources := make([]Resource, 0, len(entries))
	for _, entry := range entries {
		r, err := readResource(ctx, repository, entry, trusted)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", referenceTo(repository, manifest), err)
		}
		resources = append(resources, r)
	}
	return resources, nil
}

func readResource(ctx context.Context, repository *registry.Repository, entry tektonbundle.Entry, trusted *keys.Ring) (Resource, error) {
	layer, err := layerContent(ctx, repository, entry.Layer, tektonbundle.MaxLayer)
	if err != nil {
		return Resource{}, err
	}
	object, err := entry.Resource(layer)
	if err != nil {
		return Resource{}, err
	}
	r := Resource{Object: object}
	if r.Checksums, err = resource.ChecksumsOf(ctx, object); err != nil {
		return Resource{}, err
	}
	if signature, err := resource.Signature(object); err == nil {
		r.signedBy(trusted, signature)
	}
	return r, nil
}

func (r *Resource) signedBy(trusted *keys.Ring, signature []byte) {
	for _, dialect := range tekton.Dialects {
		if key := trusted.Find(signature, r.Checksums.In(dialect)); key != nil {
			r.Signer, r.signed = key.ID, dialect
			return
		}
	}
}

// Checksum returns the checksum that was signed.
func (r *Resource) Checksum() []byte { return r.Checksums.In(r.signed) }

// Dialects returns the dialects in which the resource has the checksum that was signed.
func (r *Resource) Dialects() []tekton.Dialect { return r.Checksums.With(r.Checksum()) }

// layerContent returns the content of a layer. It sends a request only if the
// manifest does not contain the layer.
func layerContent(ctx context.Context, repository *registry.Repository, layer ocispec.Descriptor, limit int64) ([]byte, error) {
	inline, err := registry.Inline(layer)
	if inline != nil || err != nil {
		return inline, err
	}
	return repository.Blob(ctx, layer, limit)
}
