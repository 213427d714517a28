// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
)

// fixture is a repository in an in-memory registry that can inject faults.
type fixture struct {
	t      *testing.T
	server *registrytest.Server
	repo   *Repository
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOn(t, registrytest.New(t), NewClient(Options{}))
}

func newFixtureWithoutReferrers(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOn(t, registrytest.NewWithoutReferrers(t), NewClient(Options{}))
}

func newFixtureOn(t *testing.T, server *registrytest.Server, client *Client) *fixture {
	t.Helper()
	f := &fixture{t: t, server: server}
	f.repo = f.repositoryOf(client)
	return f
}

// repositoryOf returns the same repository as another client sees it.
func (f *fixture) repositoryOf(client *Client) *Repository {
	f.t.Helper()
	repository, err := client.Repository(f.t.Context(), f.server.Host+"/prod")
	if err != nil {
		f.t.Fatal(err)
	}
	return repository
}

func newBlob(content string) Blob {
	return NewBlob("application/octet-stream", []byte(content))
}

func newManifest(t *testing.T, content string, subject *ocispec.Descriptor) Blob {
	t.Helper()
	manifest, err := NewManifest("application/x", newBlob(content), subject, nil)
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// newReferrer builds the n-th referrer of a subject.
func newReferrer(t *testing.T, subject Blob, n int) Blob {
	t.Helper()
	return newManifest(t, fmt.Sprint("referrer ", n), &ocispec.Descriptor{
		MediaType: subject.Descriptor.MediaType, Digest: subject.Descriptor.Digest, Size: subject.Descriptor.Size,
	})
}

// addManifest writes a manifest under the tag "tag", past the server's rule.
func (f *fixture) addManifest(content string) Blob {
	f.t.Helper()
	manifest := newManifest(f.t, content, nil)
	header := http.Header{"Content-Type": {manifest.Descriptor.MediaType}}
	if got := f.server.Direct(http.MethodPut, "/v2/prod/manifests/tag", header, manifest.Content); got.Code != http.StatusCreated {
		f.t.Fatalf("writing a manifest: status %d", got.Code)
	}
	return manifest
}

// addBlob writes a blob, past the server's rule.
func (f *fixture) addBlob(content string) Blob {
	f.t.Helper()
	blob := newBlob(content)
	path := "/v2/prod/blobs/uploads/?digest=" + blob.Descriptor.Digest.String()
	if got := f.server.Direct(http.MethodPost, path, nil, blob.Content); got.Code != http.StatusCreated {
		f.t.Fatalf("writing a blob: status %d", got.Code)
	}
	return blob
}

// hasBlob reports whether the registry has a blob, past the server's rule.
func (f *fixture) hasBlob(blob Blob) bool {
	got := f.server.Direct(http.MethodGet, "/v2/prod/blobs/"+blob.Descriptor.Digest.String(), nil, nil)
	return got.Code == http.StatusOK && bytes.Equal(got.Body.Bytes(), blob.Content)
}

// fallbackTag reads the index under the fallback tag of a subject, past the
// server's rule.
func (f *fixture) fallbackTag(subject Blob) (status int, body []byte) {
	got := f.server.Direct(http.MethodGet, "/v2/prod/manifests/sha256-"+subject.Descriptor.Digest.Encoded(), nil, nil)
	return got.Code, got.Body.Bytes()
}

// wantRequests checks that do succeeds and takes this number of requests.
func (f *fixture) wantRequests(want int, operation string, do func() error) {
	f.t.Helper()
	var err error
	if requests := f.server.RequestsDuring(func() { err = do() }); len(requests) != want || err != nil {
		f.t.Errorf("%s took %d requests, want %d (%v): %q", operation, len(requests), want, err, requests)
	}
}

// referrersOf lists the referrers of a subject with a new client.
func (f *fixture) referrersOf(subject digest.Digest) []digest.Digest {
	f.t.Helper()
	found, err := f.repositoryOf(NewClient(Options{})).Referrers(f.t.Context(), subject)
	if err != nil {
		f.t.Fatal(err)
	}
	digests := make([]digest.Digest, 0, len(found))
	for _, referrer := range found {
		digests = append(digests, referrer.Digest)
	}
	return digests
}

// sharedLocks implements Locks for clients in one process, and records the names
// of the locks.
type sharedLocks struct {
	mu    sync.Mutex
	names []string
}

// Do implements Locks.
func (l *sharedLocks) Do(ctx context.Context, lock string, critical func(context.Context) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names = append(l.names, lock)
	return critical(ctx)
}
