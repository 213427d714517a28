// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
)

// Repository is one repository of a registry.
type Repository struct {
	name   name.Repository
	remote *remote.Repository
	// withoutIndexing is the same repository. It is configured as one that lists
	// referrers, so that oras-go never writes an index of referrers.
	withoutIndexing *remote.Repository
	locks           *referrerLocks

	sharedBlobs sync.Map // digests of the blobs that PushSharedBlob has written

	mu              sync.Mutex // guards the field below
	referrersProbed bool       // remote knows whether the registry lists referrers
}

// Name returns the name of the repository with its registry.
func (r *Repository) Name() string { return r.name.Name() }

// Manifest reads a manifest by tag or digest. The error wraps ErrNotFound if
// there is none.
func (r *Repository) Manifest(ctx context.Context, reference string) (Blob, error) {
	descriptor, body, err := r.remote.FetchReference(ctx, reference)
	if err != nil {
		return Blob{}, r.wrap("reading manifest "+reference, err)
	}
	defer func() { _ = body.Close() }()
	if descriptor.Size > maxMetadata {
		return Blob{}, r.wrap("reading manifest "+reference, tooLarge(descriptor, maxMetadata))
	}
	manifest, err := content.ReadAll(body, descriptor) // verifies size and digest
	if err != nil {
		return Blob{}, r.wrap("reading manifest "+reference, err)
	}
	return Blob{Descriptor: descriptor, Content: manifest}, nil
}

// Blob reads a blob of at most limit bytes. The error wraps ErrNotFound if there
// is none.
func (r *Repository) Blob(ctx context.Context, descriptor ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := descriptor.Digest.Validate(); err != nil { // the digest becomes a part of the URL
		return nil, r.wrap("reading a blob", err)
	}
	if descriptor.Size > limit {
		return nil, r.wrap("reading blob "+descriptor.Digest.String(), tooLarge(descriptor, limit))
	}
	body, err := r.remote.Blobs().Fetch(ctx, descriptor)
	if err != nil {
		return nil, r.wrap("reading blob "+descriptor.Digest.String(), err)
	}
	defer func() { _ = body.Close() }()
	blob, err := content.ReadAll(body, descriptor) // verifies size and digest
	if err != nil {
		return nil, r.wrap("reading blob "+descriptor.Digest.String(), err)
	}
	return blob, nil
}

func tooLarge(descriptor ocispec.Descriptor, limit int64) error {
	return fmt.Errorf("the size is %d bytes, expected at most %d", descriptor.Size, limit)
}

// PushManifest writes a manifest that has no subject, under a tag.
func (r *Repository) PushManifest(ctx context.Context, manifest Blob, tag string) error {
	err := r.remote.PushReference(ctx, manifest.Descriptor, bytes.NewReader(manifest.Content), tag)
	return r.wrap("writing tag "+tag, err)
}

// PushBlob writes a blob.
func (r *Repository) PushBlob(ctx context.Context, blob Blob) error {
	err := r.remote.Blobs().Push(ctx, blob.Descriptor, bytes.NewReader(blob.Content))
	return r.wrap("writing blob "+blob.Descriptor.Digest.String(), err)
}

// PushSharedBlob writes a blob that many images have in common, unless this
// process has already written it to this repository.
func (r *Repository) PushSharedBlob(ctx context.Context, blob Blob) error {
	if _, written := r.sharedBlobs.Load(blob.Descriptor.Digest); written {
		return nil
	}
	if err := r.PushBlob(ctx, blob); err != nil {
		return err
	}
	r.sharedBlobs.Store(blob.Descriptor.Digest, true)
	return nil
}

// ForgetSharedBlobs makes PushSharedBlob write every blob again. Callers use it
// when the registry may have lost blobs.
func (r *Repository) ForgetSharedBlobs() { r.sharedBlobs.Clear() }

// wrap adds the repository and the operation to an error.
func (r *Repository) wrap(operation string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) { // the connection broke during the response
		err = unavailableError{err}
	}
	return fmt.Errorf("%s, %s: %w", r.Name(), operation, err)
}
