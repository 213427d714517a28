package oci

import (
	"bytes"
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
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

var (
	// ErrNotStored says that the registry has no such resource.
	ErrNotStored = errors.New("not in the registry")
	// ErrNotTrusted says that what the registry has is not signed with a key that
	// is trusted, or is something else than it should be.
	ErrNotTrusted = errors.New("not trusted")
)

// Image is a Tekton bundle and what is known of its signatures.
type Image struct {
	// Reference is its repository and digest.
	Reference string
	// Signers are the IDs of the trusted keys that signed the image.
	Signers []string
	// Unverified says why other signatures of the image are not counted.
	Unverified []error
	// Resources are in the order of the layers.
	Resources []Resource
}

// Resource is one resource of a bundle.
type Resource struct {
	Object resource.Object
	// Checksum is Tekton's, with defaults set.
	Checksum []byte
	// Signer is the ID of the trusted key that signed the resource itself, in its
	// annotation; empty if there is none.
	Signer string
}

// Find retrieves one state of a resource, the newest if checksum is nil. Both
// the image and the resource are signed with one of the keys. The error wraps
// ErrNotStored or ErrNotTrusted.
func (s *Store) Find(ctx context.Context, id ID, checksum []byte, trusted *keys.Ring) (*Image, error) {
	repository, err := s.repository(ctx, id)
	if err != nil {
		return nil, err
	}
	manifest, err := manifestOf(ctx, repository, id, checksum)
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
	wanted := func(r Resource) bool {
		return IDOf(r.Object) == id && (checksum == nil || bytes.Equal(r.Checksum, checksum))
	}
	if !slices.ContainsFunc(found.Resources, wanted) {
		return nil, fmt.Errorf("%s is %w: the tag of %s was moved to something else", found.Reference, ErrNotTrusted, id)
	}
	return found, nil
}

// Signature is the signature of a resource with this checksum, verified with
// nothing: a candidate. The error wraps ErrNotStored.
func (s *Store) Signature(ctx context.Context, id ID, checksum []byte) ([]byte, error) {
	if err := id.validate(); err != nil {
		return nil, fmt.Errorf("%w, which takes no %w", ErrNotStored, err)
	}
	repository, err := s.repository(ctx, id)
	if err != nil {
		return nil, err
	}
	manifest, err := manifestOf(ctx, repository, id, checksum)
	if err != nil {
		return nil, err
	}
	if entry := single(manifest); entry != nil && entry.Signature != nil {
		return entry.Signature, nil
	}
	return nil, fmt.Errorf("the signature of %s with checksum %x is %w", id, checksum, ErrNotStored)
}

// manifestOf is the bundle of one state, the newest if checksum is nil. A state
// that has lost its tag is found while it is the newest.
func manifestOf(ctx context.Context, repository *registry.Repository, id ID, checksum []byte) (*registry.Blob, error) {
	if checksum != nil {
		state, err := manifestIfThere(ctx, repository, StateTag(checksum))
		if state != nil || err != nil {
			return state, err
		}
	}
	newest, err := manifestIfThere(ctx, repository, NewestTag(id))
	switch {
	case err != nil:
		return nil, err
	case newest == nil:
		return nil, fmt.Errorf("%s is %w: %s has no tag %s", id, ErrNotStored, repository.Name(), NewestTag(id))
	case checksum != nil && !holds(newest, checksum):
		return nil, fmt.Errorf("%s with this checksum is %w: %s has no tag %s", id, ErrNotStored, repository.Name(), StateTag(checksum))
	}
	return newest, nil
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

// Inspect reads a bundle that anybody may have pushed, by its reference
// (registry/repository:tag or @digest), and verifies what it finds.
func Inspect(ctx context.Context, client *registry.Client, reference string, trusted *keys.Ring) (*Image, error) {
	repository, manifest, err := open(ctx, client, reference)
	if err != nil {
		return nil, err
	}
	return inspect(ctx, repository, manifest, trusted)
}

// Sign attaches a signature to a bundle that anybody may have pushed, and
// returns its reference by digest.
func Sign(ctx context.Context, client *registry.Client, reference string, key *keys.Key, log imagesignature.Options) (string, error) {
	repository, manifest, err := open(ctx, client, reference)
	if err != nil {
		return "", err
	}
	if _, err := readAll(ctx, repository, manifest, &keys.Ring{}); err != nil {
		return "", err // what we do not understand we do not sign
	}
	return referenceTo(repository, manifest), attach(ctx, repository, manifest.Descriptor, key, log)
}

func open(ctx context.Context, client *registry.Client, reference string) (*registry.Repository, registry.Blob, error) {
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
		return nil, registry.Blob{}, fmt.Errorf("%s is %w", reference, ErrNotStored)
	}
	return repository, manifest, err
}

func referenceTo(repository *registry.Repository, manifest registry.Blob) string {
	return repository.Name() + "@" + manifest.Descriptor.Digest.String()
}

func inspect(ctx context.Context, repository *registry.Repository, manifest registry.Blob, trusted *keys.Ring) (*Image, error) {
	resources, err := readAll(ctx, repository, manifest, trusted)
	if err != nil {
		return nil, err
	}
	found := &Image{Reference: referenceTo(repository, manifest), Resources: resources}
	return found, found.verify(ctx, repository, manifest.Descriptor.Digest, trusted)
}

func readAll(ctx context.Context, repository *registry.Repository, manifest registry.Blob, trusted *keys.Ring) ([]Resource, error) {
	if !tektonbundle.IsManifest(manifest.Descriptor.MediaType) {
		return nil, fmt.Errorf("%s: %w: its media type is %.80q", referenceTo(repository, manifest), tektonbundle.ErrMalformed, manifest.Descriptor.MediaType)
	}
	entries, err := tektonbundle.Entries(manifest.Content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", referenceTo(repository, manifest), err)
	}
	resources := make([]Resource, 0, len(entries))
	for _, entry := range entries {
		r, err := read(ctx, repository, entry, trusted)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", referenceTo(repository, manifest), err)
		}
		resources = append(resources, r)
	}
	return resources, nil
}

func read(ctx context.Context, repository *registry.Repository, entry tektonbundle.Entry, trusted *keys.Ring) (Resource, error) {
	layer, err := content(ctx, repository, entry.Layer, tektonbundle.MaxLayer)
	if err != nil {
		return Resource{}, err
	}
	object, err := entry.Resource(layer)
	if err != nil {
		return Resource{}, err
	}
	r := Resource{Object: object}
	if r.Checksum, err = resource.Checksum(ctx, object); err != nil {
		return Resource{}, err
	}
	if signature, err := resource.Signature(object); err == nil {
		if key := trusted.Find(signature, r.Checksum); key != nil {
			r.Signer = key.ID
		}
	}
	return r, nil
}

// content is what a descriptor describes, from the descriptor if it is there.
func content(ctx context.Context, repository *registry.Repository, descriptor ocispec.Descriptor, limit int64) ([]byte, error) {
	inline, err := registry.Inline(descriptor)
	if inline != nil || err != nil {
		return inline, err
	}
	return repository.Blob(ctx, descriptor, limit)
}

// maxSignatures bounds the signatures of one image that are read.
const maxSignatures = 50

// verify looks for signatures among the referrers. Registries do not all say of
// what type these are, so the manifests do.
func (i *Image) verify(ctx context.Context, repository *registry.Repository, subject digest.Digest, trusted *keys.Ring) error {
	referrers, err := repository.Referrers(ctx, subject)
	if err != nil {
		return err
	}
	referrers = slices.DeleteFunc(referrers, func(d ocispec.Descriptor) bool { return !maybeSignature(d) })
	if len(referrers) > maxSignatures {
		i.Unverified = append(i.Unverified, fmt.Errorf("%d signatures, of which %d were read", len(referrers), maxSignatures))
		referrers = referrers[:maxSignatures]
	}
	for _, referrer := range referrers {
		signature, err := signatureIn(ctx, repository, referrer, subject)
		if registry.Unavailable(err) {
			return err
		}
		if errors.Is(err, errNoSignature) {
			continue
		}
		var key *keys.Key
		if err == nil {
			key, err = imagesignature.Verify(signature, subject, trusted.Keys())
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

// maybeSignature leaves out what says that it is something else. Some registries
// put the media type of the configuration in place of the artifact type.
func maybeSignature(d ocispec.Descriptor) bool {
	switch d.ArtifactType {
	case imagesignature.MediaType, "", registry.EmptyConfig.Descriptor.MediaType, ocispec.MediaTypeImageConfig:
		return true
	}
	return false
}

// errNoSignature says that a referrer is something else.
var errNoSignature = errors.New("no Sigstore bundle")

func signatureIn(ctx context.Context, repository *registry.Repository, referrer ocispec.Descriptor, subject digest.Digest) ([]byte, error) {
	blob, err := repository.Manifest(ctx, referrer.Digest.String())
	if err != nil {
		return nil, err
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(blob.Content, &manifest); err != nil {
		return nil, err
	}
	if len(manifest.Layers) == 0 || manifest.Layers[0].MediaType != imagesignature.MediaType {
		return nil, errNoSignature
	}
	if manifest.Subject == nil || manifest.Subject.Digest != subject {
		return nil, errors.New("its subject is another image")
	}
	return content(ctx, repository, manifest.Layers[0], imagesignature.MaxBundle)
}
