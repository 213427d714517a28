// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// placeholderDigest is a valid digest of no particular content. The client
	// asks for its referrers to find out whether a registry has the referrers API.
	placeholderDigest = digest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")
	// maxReferrers bounds the referrers of one image that are read.
	maxReferrers = 1000
)

// PushReferrer writes a manifest that has a subject, so that readers find the
// manifest by its subject. If the registry has no referrers API, oras-go adds
// the manifest to the index under the fallback tag (distribution specification
// 1.1, "Referrers Tag Schema"). Adding means to read, change and write the
// index, so only one writer at a time may do that.
func (r *Repository) PushReferrer(ctx context.Context, manifest Blob, subject digest.Digest) error {
	listed, err := r.findReferrersAPI(ctx, manifest)
	if err != nil {
		return err
	}
	push := func(ctx context.Context) error {
		if err := r.remote.Push(ctx, manifest.Descriptor, bytes.NewReader(manifest.Content)); err != nil {
			return r.wrap("writing a referrer of "+subject.String(), err)
		}
		return r.verifyListed(ctx, manifest.Descriptor.Digest, subject)
	}
	if listed {
		return push(ctx)
	}
	return r.locks.do(ctx, r.Name()+"@"+subject.String(), push)
}

// findReferrersAPI reports whether the registry has the referrers API. A
// registry cannot say that of a repository that does not exist yet, so
// findReferrersAPI then writes the manifest to create the repository, and asks
// again.
func (r *Repository) findReferrersAPI(ctx context.Context, manifest Blob) (supported bool, err error) {
	supported, known, err := r.probeReferrersAPI(ctx)
	if err != nil || known {
		return supported, err
	}
	if err := r.putManifest(ctx, manifest); err != nil {
		return false, err
	}
	supported, known, err = r.probeReferrersAPI(ctx)
	if err != nil || known {
		return supported, err
	}
	// The registry answers 404 although the repository exists: no referrers API,
	// unless the registry has lost the manifest.
	_, err = r.Manifest(ctx, manifest.Descriptor.Digest.String())
	return false, err
}

// probeReferrersAPI asks once whether the registry has the referrers API. known
// is false if the registry does not know the repository yet. oras-go would go by
// the response header OCI-Subject, which some registries with the API lack.
func (r *Repository) probeReferrersAPI(ctx context.Context) (supported, known bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.referrersProbed {
		err := r.remote.Referrers(ctx, ocispec.Descriptor{Digest: placeholderDigest}, "", func([]ocispec.Descriptor) error { return nil })
		if IsNotFound(err) {
			return false, false, nil
		}
		if err != nil {
			return false, false, r.wrap("looking for the referrers API", err)
		}
		r.referrersProbed = true
	}
	// oras-go has recorded the answer, and returns an error for the opposite.
	return r.remote.SetReferrersCapability(true) == nil, true, nil
}

// putManifest writes a manifest by its digest and leaves the index of referrers
// alone.
func (r *Repository) putManifest(ctx context.Context, manifest Blob) error {
	err := r.withoutIndexing.Push(ctx, manifest.Descriptor, bytes.NewReader(manifest.Content))
	return r.wrap("writing manifest "+manifest.Descriptor.Digest.String(), err)
}

// verifyListed reads the referrers of a subject and returns an error if the
// referrer is not among them.
func (r *Repository) verifyListed(ctx context.Context, referrer, subject digest.Digest) error {
	referrers, err := r.Referrers(ctx, subject)
	if err != nil {
		return err
	}
	for _, found := range referrers {
		if found.Digest == referrer {
			return nil
		}
	}
	return r.wrap("reading back the referrers of "+subject.String(), fmt.Errorf("the registry accepted %s and does not list it", referrer))
}

// Referrers returns all manifests that have this subject. It does not filter by
// artifact type, because registries differ in the type that they report.
func (r *Repository) Referrers(ctx context.Context, subject digest.Digest) ([]ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	err := r.remote.Referrers(ctx, ocispec.Descriptor{Digest: subject}, "", func(page []ocispec.Descriptor) error {
		if found = append(found, page...); len(found) > maxReferrers {
			return fmt.Errorf("found more than %d referrers", maxReferrers)
		}
		return nil
	})
	if IsNotFound(err) {
		return nil, nil
	}
	return found, r.wrap("listing the referrers of "+subject.String(), err)
}
