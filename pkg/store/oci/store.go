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
)

// Store is a part of a registry.
type Store struct {
	Registry *registry.Client
	// Prefix is what the names of all repositories start with.
	Prefix string
	// TransparencyLog is where the signatures of images are entered.
	TransparencyLog imagesignature.Options
}

// Stored says where a resource is.
type Stored struct {
	// Reference is the repository and the digest of the bundle, and Tag another
	// way to it.
	Reference, Tag string
	// Uploaded says that it was not there before.
	Uploaded bool
}

// Put stores obj as a bundle and attaches a signature of it by the key. obj
// carries the signature in the bundle; if that is nil, it is the one that is
// stored already, provided that it is by this key, or else a new one. Storing
// what is stored takes one request. The tag for the newest state is the last of
// all that is written, and is read back.
func (s *Store) Put(ctx context.Context, obj resource.Object, signature []byte, key *keys.Key) (Stored, error) {
	id := IDOf(obj)
	checksum, err := resource.Checksum(ctx, obj)
	if err != nil {
		return Stored{}, fmt.Errorf("%s: %w", id, err)
	}
	repository, err := s.repository(ctx, id)
	if err != nil {
		return Stored{}, err
	}
	there, err := look(ctx, repository, id, checksum)
	if err != nil {
		return Stored{}, err
	}
	if signature == nil {
		signature = there.signature(checksum, key)
	}
	if signature == nil {
		if signature, err = key.Sign(ctx, checksum); err != nil {
			return Stored{}, err
		}
	}
	built, err := tektonbundle.New(ctx, obj, signature)
	if err != nil {
		return Stored{}, err
	}
	stored := Stored{Reference: repository.Name() + "@" + built.Manifest.Descriptor.Digest.String(), Tag: StateTag(checksum)}
	if is(there.newest, built) {
		return stored, nil
	}
	stored.Uploaded = true
	if !is(there.state, built) {
		if err := there.keep(ctx, repository, checksum); err != nil {
			return Stored{}, err
		}
		if err := s.upload(ctx, repository, built, key); err != nil {
			return Stored{}, err
		}
	}
	newest := NewestTag(id)
	if err := tag(ctx, repository, built, newest); err != nil {
		return Stored{}, err
	}
	return stored, readBack(ctx, repository, built, newest)
}

func (s *Store) repository(ctx context.Context, id ID) (*registry.Repository, error) {
	name, err := Repository(s.Prefix, id)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be stored: %w", id, err)
	}
	return s.Registry.Repository(ctx, name)
}

// upload leaves no tag behind on a bundle without a signature: that comes first,
// which registries have to take although its subject is not there yet
// (distribution specification 1.1, "Pushing Manifests with Subject").
func (s *Store) upload(ctx context.Context, repository *registry.Repository, built *tektonbundle.Bundle, key *keys.Key) error {
	if err := repository.PushBlob(ctx, built.Layer); err != nil {
		return err
	}
	if err := attach(ctx, repository, built.Manifest.Descriptor, key, s.TransparencyLog); err != nil {
		return err
	}
	return tag(ctx, repository, built, StateTag(built.Checksum))
}

// tag gives the bundle another tag.
func tag(ctx context.Context, repository *registry.Repository, built *tektonbundle.Bundle, name string) error {
	err := repository.PushManifest(ctx, built.Manifest, name)
	if err != nil {
		repository.ForgetSharedBlobs() // the registry may have lost what it once took
	}
	return err
}

// readBack checks that the bundle is there, with the layer if the manifest does
// not carry it.
func readBack(ctx context.Context, repository *registry.Repository, built *tektonbundle.Bundle, name string) error {
	found, err := repository.Manifest(ctx, name)
	if err != nil {
		return err
	}
	if !is(&found, built) {
		return fmt.Errorf("%s: the registry took the bundle %s for tag %s and then said that it is %s; something else may be writing to it",
			repository.Name(), built.Manifest.Descriptor.Digest, name, found.Descriptor.Digest)
	}
	_, err = readAll(ctx, repository, found, &keys.Ring{})
	return err
}

// present is what the registry has of a resource.
type present struct {
	// newest is under the tag for the newest state; state under the one for the
	// state in question. Either may be nil.
	newest, state *registry.Blob
}

// look asks for the newest state only, if that is the one in question. A
// resource with no newest state was never stored.
func look(ctx context.Context, repository *registry.Repository, id ID, checksum []byte) (present, error) {
	newest, err := manifestIfThere(ctx, repository, NewestTag(id))
	if err != nil || newest == nil {
		return present{}, err
	}
	if holds(newest, checksum) {
		return present{newest, newest}, nil
	}
	state, err := manifestIfThere(ctx, repository, StateTag(checksum))
	return present{newest, state}, err
}

func manifestIfThere(ctx context.Context, repository *registry.Repository, reference string) (*registry.Blob, error) {
	manifest, err := repository.Manifest(ctx, reference)
	if registry.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	return &manifest, err
}

// single is the only resource of a bundle of ours, nil if it is none.
func single(manifest *registry.Blob) *tektonbundle.Entry {
	entries, err := tektonbundle.Entries(manifest.Content)
	if err != nil || len(entries) != 1 || len(entries[0].Checksum) == 0 {
		return nil
	}
	return &entries[0]
}

// holds says whether a bundle of ours is that of a state, as it says itself.
func holds(manifest *registry.Blob, checksum []byte) bool {
	entry := single(manifest)
	return entry != nil && bytes.Equal(entry.Checksum, checksum)
}

func is(there *registry.Blob, built *tektonbundle.Bundle) bool {
	return there != nil && there.Descriptor.Digest == built.Manifest.Descriptor.Digest
}

// signature is the one that is stored, nil if it is not by the key.
func (p present) signature(checksum []byte, key *keys.Key) []byte {
	if p.state == nil {
		return nil
	}
	entry := single(p.state)
	if entry == nil || !key.Verify(entry.Signature, checksum) {
		return nil
	}
	return entry.Signature
}

// keep gives the bundle a tag of its own that is about to lose the one of its
// state: registries clean up what has none, and attestations may name it.
func (p present) keep(ctx context.Context, repository *registry.Repository, checksum []byte) error {
	if p.state == nil || single(p.state) == nil {
		return nil // nothing, or something that somebody else put there
	}
	return repository.PushManifest(ctx, *p.state, keptTag(checksum, p.state.Descriptor.Digest))
}
