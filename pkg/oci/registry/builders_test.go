package registry

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
)

// world is a repository of a registry that fails as told.
type world struct {
	*testing.T
	*registrytest.Server
	*Repository
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return in(t, registrytest.New(t), NewClient(Options{}))
}

func newWorldWithoutReferrers(t *testing.T) *world {
	t.Helper()
	return in(t, registrytest.NewWithoutReferrers(t), NewClient(Options{}))
}

func in(t *testing.T, server *registrytest.Server, client *Client) *world {
	t.Helper()
	w := &world{T: t, Server: server}
	w.Repository = w.by(client)
	return w
}

func (w *world) by(client *Client) *Repository {
	w.Helper()
	repository, err := client.Repository(w.Context(), w.Host+"/prod")
	if err != nil {
		w.Fatal(err)
	}
	return repository
}

func blob(content string) Blob {
	return NewBlob("application/octet-stream", []byte(content))
}

func manifest(t *testing.T, content string, subject *ocispec.Descriptor) Blob {
	t.Helper()
	built, err := NewManifest("application/x", blob(content), subject, nil)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// pushed has a manifest with that content at the tag "tag", whatever the fault.
func (w *world) pushed(content string) Blob {
	w.Helper()
	built := manifest(w.T, content, nil)
	header := http.Header{"Content-Type": {built.Descriptor.MediaType}}
	if got := w.Do(http.MethodPut, "/v2/prod/manifests/tag", header, built.Content); got.Code != http.StatusCreated {
		w.Fatalf("pushing: status %d", got.Code)
	}
	return built
}

// uploaded has a blob in the registry, whatever the fault.
func (w *world) uploaded(content string) Blob {
	w.Helper()
	b := blob(content)
	if got := w.Do(http.MethodPost, "/v2/prod/blobs/uploads/?digest="+b.Descriptor.Digest.String(), nil, b.Content); got.Code != http.StatusCreated {
		w.Fatalf("uploading: status %d", got.Code)
	}
	return b
}

// count has the requests of one call counted.
func (w *world) count(want int, what string, do func() error) {
	w.Helper()
	var err error
	if requests := w.During(func() { err = do() }); len(requests) != want || err != nil {
		w.Errorf("%s took %d requests, want %d (%v): %q", what, len(requests), want, err, requests)
	}
}

// mutex is a lock that processes share.
type mutex struct {
	sync.Mutex
	names []string
}

func (m *mutex) Do(ctx context.Context, lock string, do func(context.Context) error) error {
	m.Lock()
	defer m.Unlock()
	m.names = append(m.names, lock)
	return do(ctx)
}

// referrersOf is what readers see.
func (w *world) referrersOf(subject digest.Digest) []digest.Digest {
	w.Helper()
	found, err := w.by(NewClient(Options{})).Referrers(w.Context(), subject)
	if err != nil {
		w.Fatal(err)
	}
	digests := make([]digest.Digest, 0, len(found))
	for _, one := range found {
		digests = append(digests, one.Digest)
	}
	return digests
}

func attachment(t *testing.T, subject Blob, n int) Blob {
	t.Helper()
	return manifest(t, fmt.Sprint("referrer ", n), &ocispec.Descriptor{
		MediaType: subject.Descriptor.MediaType, Digest: subject.Descriptor.Digest, Size: subject.Descriptor.Size,
	})
}
