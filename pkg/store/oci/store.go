// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"fmt"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Store is the place for bundles: the repositories with a common prefix in a
// registry.
type Store struct {
	Registry *registry.Client
	// Prefix is the common start of all repository names, such as
	// "registry.example/tekton".
	Prefix string
	// SignOptions configure the signatures of bundles.
	SignOptions imagesignature.Options
}

// PutResult says where Put has found or written a bundle.
type PutResult struct {
	// Reference is the repository and the digest of the bundle.
	Reference string
	// Tag is the tag of the resource's state.
	Tag string
	// Uploaded is true if Put has written anything, and false if the bundle was
	// already the newest one.
	Uploaded bool
	// Displaced is the digest of the bundle that lost the tag of the state to this one;
	// empty if there was none.
	Displaced string
}

// Put writes obj as a bundle and attaches a signature of the bundle by key. The
// resource in the bundle carries the given signature. If signature is nil, the
// resource carries the persisted signature if key made it, and otherwise a new
// one. Both are over the checksum in the dialect, which a bundle has one of.
//
// If the bundle is already the newest one, Put takes one request. Put writes the
// tag of the newest state last and reads it back, so a bundle under that tag is
// complete.
func (s *Store) Put(ctx context.Context, obj resource.Object, signature []byte, key *keys.Key, dialect tekton.Dialect) (PutResult, error) {
	id := IDOf(obj)
	checksum, err := resource.Checksum(ctx, obj, dialect)
	if err != nil {
		return PutResult{}, fmt.Errorf("%s: %w", id, err)
	}
	repository, err := s.repository(ctx, id)
	if err != nil {
		return PutResult{}, err
	}
	persisted, err := findPersisted(ctx, repository, id, checksum)
	if err != nil {
		return PutResult{}, err
	}
	if signature == nil {
		signature = persisted.signature(checksum, key)
	}
	if signature == nil {
		if signature, err = key.Sign(ctx, checksum); err != nil {
			return PutResult{}, err
		}
	}
	bundle, err := tektonbundle.New(ctx, obj, signature, dialect)
	if err != nil {
		return PutResult{}, err
	}
	result := PutResult{Reference: referenceTo(repository, bundle.Manifest), Tag: StateTag(checksum)}
	if isManifestOf(persisted.newest, bundle) {
		return result, nil
	}
	result.Uploaded = true
	if !isManifestOf(persisted.state, bundle) {
		if err := persisted.tagDisplaced(ctx, repository, checksum); err != nil {
			return PutResult{}, err
		}
		if err := s.upload(ctx, repository, bundle, key); err != nil {
			return PutResult{}, err
		}
		result.Displaced = persisted.displaced()
	}
	newest := NewestTag(id)
	if err := pushTag(ctx, repository, bundle, newest); err != nil {
		return PutResult{}, err
	}
	return result, verifyWritten(ctx, repository, bundle, newest)
}

func (s *Store) repository(ctx context.Context, id ID) (*registry.Repository, error) {
	name, err := RepositoryName(s.Prefix, id)
	if err != nil {
		return nil, fmt.Errorf("the repository of %s: %w", id, err)
	}
	return s.Registry.Repository(ctx, name)
}

// upload writes the layer, then the signature, then the tag. In this order no tag
// ever refers to an unsigned bundle. Registries must accept a signature before
// its subject exists (distribution specification 1.1, "Pushing Manifests with
// Subject").
func (s *Store) upload(ctx context.Context, repository *registry.Repository, bundle *tektonbundle.Bundle, key *keys.Key) error {
	if err := repository.PushBlob(ctx, bundle.Layer); err != nil {
		return err
	}
	if err := attachSignature(ctx, repository, bundle.Manifest.Descriptor, key, s.SignOptions); err != nil {
		return err
	}
	return pushTag(ctx, repository, bundle, StateTag(bundle.Checksum))
}

// pushTag writes the manifest of the bundle under a tag.
func pushTag(ctx context.Context, repository *registry.Repository, bundle *tektonbundle.Bundle, tag string) error {
	err := repository.PushManifest(ctx, bundle.Manifest, tag)
	if err != nil {
		repository.ForgetSharedBlobs() // the registry may have lost a blob and reject the manifest
	}
	return err
}

// verifyWritten reads the tag back, and the layer if the manifest does not
// contain the layer.
func verifyWritten(ctx context.Context, repository *registry.Repository, bundle *tektonbundle.Bundle, tag string) error {
	found, err := repository.Manifest(ctx, tag)
	if err != nil {
		return err
	}
	if !isManifestOf(&found, bundle) {
		return fmt.Errorf("%s: after writing tag %s the registry returns manifest %s, expected %s; something else may be writing to the repository",
			repository.Name(), tag, found.Descriptor.Digest, bundle.Manifest.Descriptor.Digest)
	}
	_, err = readResources(ctx, repository, found, &keys.Ring{})
	return err
}

// persistedManifests are the manifests of a resource in the registry before Put
// writes. A manifest is nil if its tag does not exist.
type persistedManifests struct {
	newest *registry.Blob // under the tag of the newest state
	state  *registry.Blob // under the tag of the state that Put writes
}

// findPersisted reads the tag of the state only if the newest state is another
// one. A resource without a newest state was never put into the registry.
func findPersisted(ctx context.Context, repository *registry.Repository, id ID, checksum []byte) (persistedManifests, error) {
	newest, err := manifestOrNil(ctx, repository, NewestTag(id))
	if err != nil || newest == nil {
		return persistedManifests{}, err
	}
	if hasChecksum(newest, checksum) {
		return persistedManifests{newest, newest}, nil
	}
	state, err := manifestOrNil(ctx, repository, StateTag(checksum))
	return persistedManifests{newest, state}, err
}

// manifestOrNil reads a manifest. It returns nil if the manifest does not exist.
func manifestOrNil(ctx context.Context, repository *registry.Repository, reference string) (*registry.Blob, error) {
	manifest, err := repository.Manifest(ctx, reference)
	if registry.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	return &manifest, err
}

// soleEntry returns the only entry of a bundle that this package has written. It
// returns nil for other manifests.
func soleEntry(manifest *registry.Blob) *tektonbundle.Entry {
	entries, err := tektonbundle.Entries(manifest.Content)
	if err != nil || len(entries) != 1 || len(entries[0].Checksum) == 0 {
		return nil
	}
	return &entries[0]
}

// hasChecksum reports whether the annotation of a bundle states this checksum.
func hasChecksum(manifest *registry.Blob, checksum []byte) bool {
	entry := soleEntry(manifest)
	return entry != nil && bytes.Equal(entry.Checksum, checksum)
}

func isManifestOf(manifest *registry.Blob, bundle *tektonbundle.Bundle) bool {
	return manifest != nil && manifest.Descriptor.Digest == bundle.Manifest.Descriptor.Digest
}

// signature returns the persisted signature of the state, or nil if key did not
// make the signature.
func (p persistedManifests) signature(checksum []byte, key *keys.Key) []byte {
	if p.state == nil {
		return nil
	}
	entry := soleEntry(p.state)
	if entry == nil || !key.Verify(entry.Signature, checksum) {
		return nil
	}
	return entry.Signature
}

// displaced returns the digest of the bundle that is about to lose the tag of its state;
// empty if there is no bundle, or none of this package.
func (p persistedManifests) displaced() string {
	if p.state == nil || soleEntry(p.state) == nil {
		return ""
	}
	return p.state.Descriptor.Digest.String()
}

// tagDisplaced writes an additional tag for the bundle that is about to lose the
// tag of its state. Registries delete manifests without a tag, and attestations
// may refer to this bundle.
func (p persistedManifests) tagDisplaced(ctx context.Context, repository *registry.Repository, checksum []byte) error {
	if p.displaced() == "" {
		return nil
	}
	return repository.PushManifest(ctx, *p.state, displacedTag(checksum, p.state.Descriptor.Digest))
}
