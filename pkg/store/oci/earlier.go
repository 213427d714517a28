// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
)

// Newest is what the tag of the newest state of a resource refers to.
type Newest struct {
	// Reference is the repository and the tag.
	Reference string
	// Checksum and Signature are those of the resource in the bundle. They are not
	// verified.
	Checksum, Signature []byte
}

// Newest returns the newest bundle of a resource; nil if there is none. It takes one
// request. The error wraps tektonbundle.ErrMalformed if the tag refers to something that
// Put has not written.
func (s *Store) Newest(ctx context.Context, id ID) (*Newest, error) {
	repository, err := s.repository(ctx, id)
	if err != nil {
		return nil, err
	}
	manifest, err := manifestOrNil(ctx, repository, NewestTag(id))
	if manifest == nil || err != nil {
		return nil, err
	}
	found := &Newest{Reference: repository.Name() + ":" + NewestTag(id)}
	entry := soleEntry(manifest)
	if entry == nil {
		return nil, fmt.Errorf("%s: %w: something else has written this tag, expected a bundle of %s", found.Reference, tektonbundle.ErrMalformed, id)
	}
	found.Checksum, found.Signature = entry.Checksum, entry.Signature
	return found, nil
}

// Earlier returns the tags of the bundles of a state that lost the tag of the state to
// another bundle.
func (s *Store) Earlier(ctx context.Context, id ID, checksum []byte) (tags []string, err error) {
	repository, err := s.repository(ctx, id)
	if err != nil {
		return nil, err
	}
	err = repository.Tags(ctx, StateTag(checksum), func(tag string) bool {
		found := strings.HasPrefix(tag, StateTag(checksum)+"-")
		if found {
			tags = append(tags, tag)
		}
		return found // they come first
	})
	return tags, err
}

// SignEarlier attaches a signature by key to an earlier bundle of a state, given by its tag
// or digest, so that whoever has the digest can verify the bundle with either key. signed is
// false if the bundle has one already.
//
// The key vouches only for what it would sign today: keys of the ring that are not revoked
// must have signed the bundle and the resource in it, and the resource must be the one with
// this ID and checksum. Otherwise the error wraps ErrNotTrusted.
func (s *Store) SignEarlier(
	ctx context.Context, id ID, checksum []byte, earlier string, key *keys.Key, known *keys.Ring,
) (reference string, signed bool, err error) {
	repository, err := s.repository(ctx, id)
	if err != nil {
		return "", false, err
	}
	manifest, err := repository.Manifest(ctx, earlier)
	if err != nil {
		return "", false, permanent(err)
	}
	reference = referenceTo(repository, manifest)
	found, err := inspect(ctx, repository, manifest, known)
	if err != nil {
		return reference, false, permanent(err)
	}
	if err := found.holdsOnly(id, checksum); err != nil {
		return reference, false, err
	}
	if slices.Contains(found.Signers, key.ID) {
		return reference, false, nil
	}
	err = attachSignature(ctx, repository, manifest.Descriptor, key, s.SignOptions)
	return reference, err == nil, err
}

// permanent marks the errors that say that a bundle cannot be trusted.
func permanent(err error) error {
	if registry.IsNotFound(err) || errors.Is(err, tektonbundle.ErrMalformed) {
		return fmt.Errorf("%w: %w", ErrNotTrusted, err)
	}
	return err
}

// holdsOnly returns nil if an image is trusted, and holds one state of one resource and
// nothing else.
func (i *Image) holdsOnly(id ID, checksum []byte) error {
	if err := i.CheckTrust(); err != nil {
		return err
	}
	if len(i.Resources) != 1 || IDOf(i.Resources[0].Object) != id || !bytes.Equal(i.Resources[0].Checksum(), checksum) {
		return fmt.Errorf("%s is %w: expected only %s with the checksum %x", i.Reference, ErrNotTrusted, id, checksum)
	}
	return nil
}
