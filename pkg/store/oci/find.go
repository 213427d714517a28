// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"context"
	"errors"
	"fmt"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
)

var (
	// ErrNotFound means that the registry has no such resource or bundle.
	ErrNotFound = errors.New("not in the registry")
	// ErrNotTrusted means that no trusted key signed the bundle or a resource in
	// the bundle, or that the bundle holds another resource than its tag says.
	ErrNotTrusted = errors.New("not trusted")
	// ErrDialect means that a resource in a bundle is signed for other releases of
	// Tekton.
	ErrDialect = errors.New("signed for other releases of Tekton")
	// ErrNamespace means that a bundle holds resources of another namespace.
	ErrNamespace = errors.New("a resource of another namespace")
)

// Find returns the bundle of one state of a resource; nil as checksum means the
// newest state. Trusted keys signed the bundle and every resource in it, and
// Image.Resource returns the resource. The error wraps ErrNotFound or
// ErrNotTrusted.
func (s *Store) Find(ctx context.Context, id ID, checksum []byte, trusted *keys.Ring) (*Image, error) {
	repository, err := s.repository(ctx, id)
	if err != nil {
		return nil, err
	}
	manifest, err := findManifest(ctx, repository, id, checksum)
	if err != nil {
		return nil, err
	}
	found, err := inspect(ctx, repository, *manifest, trusted)
	if err != nil {
		return nil, err
	}
	if err := found.CheckTrust(); err != nil {
		return nil, err
	}
	if found.Resource(id, checksum) == nil {
		return nil, fmt.Errorf("%s is %w: the tag of %s refers to another resource or state", found.Reference, ErrNotTrusted, id)
	}
	return found, nil
}

// Signature returns the persisted signature of a resource with this checksum.
// The signature is not verified: it is a candidate. The error wraps ErrNotFound.
func (s *Store) Signature(ctx context.Context, id ID, checksum []byte) ([]byte, error) {
	if err := id.validate(); err != nil {
		return nil, fmt.Errorf("%s is %w, which holds only valid names: %w", id, ErrNotFound, err)
	}
	repository, err := s.repository(ctx, id)
	if err != nil {
		return nil, err
	}
	manifest, err := findManifest(ctx, repository, id, checksum)
	if err != nil {
		return nil, err
	}
	if entry := soleEntry(manifest); entry != nil && entry.Signature != nil {
		return entry.Signature, nil
	}
	return nil, fmt.Errorf("the signature of %s with checksum %x is %w", id, checksum, ErrNotFound)
}

// findManifest returns the bundle of one state; nil as checksum means the newest
// state. A state whose own tag is missing is still found while it is the newest.
func findManifest(ctx context.Context, repository *registry.Repository, id ID, checksum []byte) (*registry.Blob, error) {
	if checksum != nil {
		state, err := manifestOrNil(ctx, repository, StateTag(checksum))
		if state != nil || err != nil {
			return state, err
		}
	}
	newest, err := manifestOrNil(ctx, repository, NewestTag(id))
	switch {
	case err != nil:
		return nil, err
	case newest == nil:
		return nil, fmt.Errorf("%s is %w: %s has no tag %s", id, ErrNotFound, repository.Name(), NewestTag(id))
	case checksum != nil && !hasChecksum(newest, checksum):
		return nil, fmt.Errorf("%s with this checksum is %w: %s has no tag %s", id, ErrNotFound, repository.Name(), StateTag(checksum))
	}
	return newest, nil
}
