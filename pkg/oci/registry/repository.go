package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Repository is one repository of a registry.
type Repository struct {
	name   name.Repository
	remote *remote.Repository
	host   *host
	locks  *locks

	pushed sync.Map // digests of blobs that all images share

	mu     sync.Mutex // guards all below
	looked bool       // whether it lists referrers
}

// Name is that of the repository, with its registry.
func (r *Repository) Name() string { return r.name.Name() }

// Manifest reads a manifest by tag or digest. The error wraps ErrNotFound.
func (r *Repository) Manifest(ctx context.Context, reference string) (Blob, error) {
	descriptor, body, err := r.remote.FetchReference(ctx, reference)
	if err != nil {
		return Blob{}, r.failed("reading manifest "+reference, err)
	}
	defer func() { _ = body.Close() }()
	if descriptor.Size > maxMetadata {
		return Blob{}, r.failed("reading manifest "+reference, tooLarge(descriptor, maxMetadata))
	}
	manifest, err := content.ReadAll(body, descriptor) // verifies size and digest
	if err != nil {
		return Blob{}, r.failed("reading manifest "+reference, err)
	}
	return Blob{Descriptor: descriptor, Content: manifest}, nil
}

// Blob reads a blob of at most limit bytes.
func (r *Repository) Blob(ctx context.Context, descriptor ocispec.Descriptor, limit int64) ([]byte, error) {
	if err := descriptor.Digest.Validate(); err != nil { // it is part of the URL
		return nil, r.failed("reading a blob", err)
	}
	if descriptor.Size > limit { // before anything is asked for
		return nil, r.failed("reading blob "+descriptor.Digest.String(), tooLarge(descriptor, limit))
	}
	body, err := r.remote.Blobs().Fetch(ctx, descriptor)
	if err != nil {
		return nil, r.failed("reading blob "+descriptor.Digest.String(), err)
	}
	defer func() { _ = body.Close() }()
	blob, err := content.ReadAll(body, descriptor)
	if err != nil {
		return nil, r.failed("reading blob "+descriptor.Digest.String(), err)
	}
	return blob, nil
}

func tooLarge(descriptor ocispec.Descriptor, limit int64) error {
	return fmt.Errorf("it is of %d bytes, expected at most %d", descriptor.Size, limit)
}

// PushManifest writes a manifest that has no subject, under a tag.
func (r *Repository) PushManifest(ctx context.Context, manifest Blob, tag string) error {
	err := r.remote.PushReference(ctx, manifest.Descriptor, bytes.NewReader(manifest.Content), tag)
	return r.failed("writing tag "+tag, err)
}

// PushBlob writes a blob.
func (r *Repository) PushBlob(ctx context.Context, blob Blob) error {
	if !r.host.refusesSinglePost.Load() {
		if done, err := r.postBlob(ctx, blob); done || err != nil {
			return r.failed("writing blob "+blob.Descriptor.Digest.String(), err)
		}
	}
	err := r.remote.Blobs().Push(ctx, blob.Descriptor, bytes.NewReader(blob.Content))
	if err == nil { // else it refuses more than that
		r.host.refusesSinglePost.Store(true)
	}
	return r.failed("writing blob "+blob.Descriptor.Digest.String(), err)
}

// PushSharedBlob writes a blob unless this process did so before.
func (r *Repository) PushSharedBlob(ctx context.Context, blob Blob) error {
	if _, there := r.pushed.Load(blob.Descriptor.Digest); there {
		return nil
	}
	if err := r.PushBlob(ctx, blob); err != nil {
		return err
	}
	r.pushed.Store(blob.Descriptor.Digest, true)
	return nil
}

// ForgetSharedBlobs has them written again, for a registry that lost them.
func (r *Repository) ForgetSharedBlobs() { r.pushed.Clear() }

// postBlob writes a blob in a single request, which the distribution
// specification lets registries do without: the library always takes two. It
// says whether this one can.
func (r *Repository) postBlob(ctx context.Context, blob Blob) (done bool, err error) {
	query := url.Values{"digest": {blob.Descriptor.Digest.String()}}
	request, err := r.request(ctx, http.MethodPost, "blobs/uploads/?"+query.Encode(), bytes.NewReader(blob.Content))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	response, err := r.do(request, auth.ActionPull, auth.ActionPush)
	if err != nil {
		return false, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= http.StatusInternalServerError {
		return false, refusal(response) // of this blob now, not of the way
	}
	return response.StatusCode == http.StatusCreated, nil
}

// nobody is the digest of nothing.
const nobody = digest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")

// listsReferrers says whether the registry lists referrers itself, and whether
// it could be found out: a registry may not know the repository yet. The library
// would go by the header OCI-Subject, which not every registry that lists them
// sends.
func (r *Repository) listsReferrers(ctx context.Context) (lists, known bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.looked {
		err := r.remote.Referrers(ctx, ocispec.Descriptor{Digest: nobody}, "", func([]ocispec.Descriptor) error { return nil })
		if IsNotFound(err) {
			return false, false, nil
		}
		if err != nil {
			return false, false, r.failed("looking for the referrers API", err)
		}
		r.looked = true
	}
	// The library knows now, and takes no other answer.
	return r.remote.SetReferrersCapability(true) == nil, true, nil
}

// PushReferrer writes a manifest that has a subject, where readers find it by
// that. If the registry does not list referrers itself, that is the index under
// the fallback tag (distribution specification 1.1, "Referrers Tag Schema"), to
// which one writer at a time may add.
func (r *Repository) PushReferrer(ctx context.Context, manifest Blob, subject digest.Digest) error {
	lists, known, err := r.listsReferrers(ctx)
	if err == nil && !known {
		if err = r.putManifest(ctx, manifest); err == nil { // now it knows the repository
			lists, known, err = r.listsReferrers(ctx)
		}
		if err == nil && !known { // it lists none, unless it lost the manifest
			_, err = r.Manifest(ctx, manifest.Descriptor.Digest.String())
		}
	}
	if err != nil {
		return err
	}
	push := func(ctx context.Context) error {
		if err := r.remote.Push(ctx, manifest.Descriptor, bytes.NewReader(manifest.Content)); err != nil {
			return r.failed("writing a referrer of "+subject.String(), err)
		}
		return r.listed(ctx, manifest.Descriptor.Digest, subject)
	}
	if lists {
		return push(ctx)
	}
	return r.locks.do(ctx, r.Name()+"@"+subject.String(), push)
}

// putManifest writes a manifest by its digest and no more.
func (r *Repository) putManifest(ctx context.Context, manifest Blob) error {
	request, err := r.request(ctx, http.MethodPut, "manifests/"+manifest.Descriptor.Digest.String(), bytes.NewReader(manifest.Content))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", manifest.Descriptor.MediaType)
	response, err := r.do(request, auth.ActionPull, auth.ActionPush)
	if err != nil {
		return r.failed("writing manifest "+manifest.Descriptor.Digest.String(), err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusCreated {
		return r.failed("writing manifest "+manifest.Descriptor.Digest.String(), refusal(response))
	}
	return nil
}

// listed reads back whether the registry lists a referrer.
func (r *Repository) listed(ctx context.Context, referrer, subject digest.Digest) error {
	found, err := r.Referrers(ctx, subject)
	if err != nil {
		return err
	}
	for _, one := range found {
		if one.Digest == referrer {
			return nil
		}
	}
	return r.failed("reading back the referrers of "+subject.String(), fmt.Errorf("the registry took %s and does not list it", referrer))
}

// maxReferrers bounds the referrers of one image that are looked at.
const maxReferrers = 1000

// Referrers are the manifests that have this subject, of whatever type:
// registries differ in what they filter by.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	err := r.remote.Referrers(ctx, ocispec.Descriptor{Digest: subject}, "", func(page []ocispec.Descriptor) error {
		if found = append(found, page...); len(found) > maxReferrers {
			return fmt.Errorf("more than %d", maxReferrers)
		}
		return nil
	})
	if IsNotFound(err) {
		return nil, nil
	}
	return found, r.failed("listing the referrers of "+subject.String(), err)
}

func (r *Repository) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	scheme := "https"
	if r.host.plainHTTP {
		scheme = "http"
	}
	return http.NewRequestWithContext(ctx, method, scheme+"://"+r.remote.Reference.Host()+"/v2/"+r.remote.Reference.Repository+"/"+path, body)
}

func (r *Repository) do(request *http.Request, actions ...string) (*http.Response, error) {
	ctx := auth.AppendRepositoryScope(request.Context(), r.remote.Reference, actions...)
	return r.remote.Client.Do(request.WithContext(ctx))
}

func (r *Repository) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = unanswered{err}
	}
	return fmt.Errorf("%s, %s: %w", r.Name(), what, err)
}
