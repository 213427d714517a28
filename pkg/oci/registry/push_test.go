package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
)

func (w *world) holds(b Blob) bool {
	got := w.Do(http.MethodGet, "/v2/prod/blobs/"+b.Descriptor.Digest.String(), nil, nil)
	return got.Code == http.StatusOK && bytes.Equal(got.Body.Bytes(), b.Content)
}

func isPost(_ int, r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Get("digest") != ""
}

// begins is how registries answer that want a blob in two requests.
func begins(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
	r.URL.RawQuery = ""
	registry.ServeHTTP(w, r)
}

func TestABlobTakesOneRequestWhereTheRegistryLetsIt(t *testing.T) {
	w := newWorld(t)
	a, b := blob("a"), blob("b")
	w.count(1, "a blob", func() error { return w.PushBlob(t.Context(), a) })
	w.Fail(registrytest.Where(isPost, begins))
	w.count(3, "the first blob in two requests", func() error { return w.PushBlob(t.Context(), b) })
	w.count(2, "the second", func() error { return w.PushBlob(t.Context(), blob("c")) })
	if !w.holds(a) || !w.holds(b) || !w.holds(blob("c")) {
		t.Error("they are not there")
	}
	shared := in(t, w.Server, NewClient(Options{}))
	shared.Fail(nil)
	shared.count(1, "a shared blob", func() error { return shared.PushSharedBlob(t.Context(), Empty) })
	shared.count(0, "it again", func() error { return shared.PushSharedBlob(t.Context(), Empty) })
	shared.ForgetSharedBlobs()
	shared.count(1, "it, forgotten", func() error { return shared.PushSharedBlob(t.Context(), Empty) })
}

// What goes wrong once is no reason to take two requests for ever.
func TestABlobThatIsRefused(t *testing.T) {
	for name, fault := range map[string]registrytest.Fault{
		"not allowed":  registrytest.Status(403, "DENIED"),
		"quota":        registrytest.Status(413, "DENIED"),
		"full":         registrytest.Status(507, "UNKNOWN"),
		"broken":       registrytest.Status(500, "UNKNOWN"),
		"cut off":      registrytest.HangupDuring,
		"hung up":      registrytest.Hangup,
		"busy":         registrytest.Status(429, "TOOMANYREQUESTS", "Retry-After", "3"),
		"wrong digest": registrytest.Status(400, "DIGEST_INVALID"),
	} {
		w, b := newWorld(t), blob("a")
		w.Fail(fault)
		if err := w.PushBlob(t.Context(), b); err == nil || name != "wrong digest" && !Unavailable(err) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := w.PushSharedBlob(t.Context(), b); err == nil {
			t.Errorf("%s: it is shared", name)
		}
		w.Fail(nil)
		w.count(1, name+", and then not", func() error { return w.PushSharedBlob(t.Context(), b) })
	}
	w := newWorld(t)
	w.Fail(registrytest.Status(403, "DENIED"))
	if err := w.PushBlob(t.Context(), blob("a")); !strings.Contains(fmt.Sprint(err), "as told") {
		t.Errorf("what the registry says of it is not in %v", err)
	}
}

func TestAManifestThatIsRefused(t *testing.T) {
	for name, status := range map[string]int{"not allowed": 403, "broken": 500, "a tag that stays": 409, "accepted, not stored": 202} {
		w := newWorld(t)
		w.Fail(registrytest.Where(registrytest.Asks(http.MethodPut, "/manifests/"), registrytest.Status(status, "DENIED")))
		if err := w.PushManifest(t.Context(), manifest(t, "x", nil), "tag"); err == nil {
			t.Errorf("%s: got no error", name)
		}
		subject := manifest(t, "subject", nil)
		if err := w.PushReferrer(t.Context(), attachment(t, subject, 0), subject.Descriptor.Digest); !Unavailable(err) || IsNotFound(err) || !strings.Contains(err.Error(), "as told") {
			t.Errorf("%s: of a referrer, got %v", name, err)
		}
	}
}

func TestAReferrerIsFoundByItsSubject(t *testing.T) {
	for name, w := range map[string]*world{"with referrers": newWorld(t), "without": newWorldWithoutReferrers(t)} {
		t.Run(name, func(t *testing.T) {
			w.T = t
			subject := manifest(t, "subject", nil)
			for n := range 3 { // the first makes the repository
				one := attachment(t, subject, n)
				if err := w.PushReferrer(t.Context(), one, subject.Descriptor.Digest); err != nil {
					t.Fatal(err)
				}
				if found := w.referrersOf(subject.Descriptor.Digest); len(found) != n+1 || !slices.Contains(found, one.Descriptor.Digest) {
					t.Errorf("got %v", found)
				}
			}
			fallback := w.Do(http.MethodGet, "/v2/prod/manifests/sha256-"+subject.Descriptor.Digest.Encoded(), nil, nil).Code
			if (fallback == http.StatusOK) != (name == "without") {
				t.Errorf("asked for the fallback tag, got status %d", fallback)
			}
		})
	}
}

// A registry that lists referrers, is not asked to by any fault of a moment.
func TestAFaultDoesNotLookLikeARegistryWithoutReferrers(t *testing.T) {
	subject := manifest(t, "subject", nil)
	for name, fault := range map[string]registrytest.Fault{
		"broken":      registrytest.Status(500, "UNKNOWN"),
		"not allowed": registrytest.Status(403, "DENIED"),
		"hung up":     registrytest.Hangup,
		"no answer":   registrytest.HangupAfter,
		"swallowed":   registrytest.Swallow,
	} {
		for n := 1; ; n++ {
			w, failed := newWorld(t), new(atomic.Bool)
			w.Fail(registrytest.Nth(n, func(i int, rw http.ResponseWriter, r *http.Request, registry http.Handler) {
				failed.Store(true)
				fault(i, rw, r, registry)
			}))
			err := w.PushReferrer(t.Context(), attachment(t, subject, 0), subject.Descriptor.Digest)
			if !failed.Load() {
				break
			}
			if found := w.referrersOf(subject.Descriptor.Digest); err == nil && len(found) != 1 {
				t.Errorf("%s, request %d: it is said to be there, and is not", name, n)
			}
			w.Fail(nil)
			if err := w.PushReferrer(t.Context(), attachment(t, subject, 1), subject.Descriptor.Digest); err != nil {
				t.Errorf("%s, request %d: and then %v", name, n, err)
			}
			if got := w.Do(http.MethodGet, "/v2/prod/manifests/sha256-"+subject.Descriptor.Digest.Encoded(), nil, nil).Code; got == http.StatusOK {
				t.Errorf("%s, request %d: it wrote the fallback tag", name, n)
			}
		}
	}
}

// Whatever the way in which it says so.
func TestARegistryThatDoesNotKnowTheRepositoryWhenAskedForReferrers(t *testing.T) {
	w := newWorldWithoutReferrers(t)
	w.Fail(registrytest.Where(registrytest.Asks(http.MethodGet, "/referrers/"), registrytest.Status(404, "NAME_UNKNOWN")))
	subject := w.pushed("subject")
	one := attachment(t, subject, 0)
	if err := w.PushReferrer(t.Context(), one, subject.Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	if got := w.Do(http.MethodGet, "/v2/prod/manifests/sha256-"+subject.Descriptor.Digest.Encoded(), nil, nil); !strings.Contains(got.Body.String(), one.Descriptor.Digest.Encoded()) {
		t.Errorf("got %s", got.Body)
	}
}

func TestAReferrerThatTheRegistryDoesNotListIsAnError(t *testing.T) {
	for name, w := range map[string]*world{"with referrers": newWorld(t), "without": newWorldWithoutReferrers(t)} {
		subject := manifest(t, "subject", nil)
		w.pushed("other")
		w.Fail(registrytest.Swallow)
		if err := w.PushReferrer(t.Context(), attachment(t, subject, 0), subject.Descriptor.Digest); err == nil || !strings.Contains(err.Error(), "does not list") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// The index under the fallback tag is read, changed and written: two who do that
// at a time lose something.
func TestWritersOfOneFallbackTagLoseNothing(t *testing.T) {
	const processes, each = 3, 4
	server := registrytest.NewWithoutReferrers(t)
	shared := &mutex{}
	first := in(t, server, NewClient(Options{}))
	subject := first.pushed("subject")
	var group sync.WaitGroup
	made := make([]digest.Digest, 0, processes*each)
	for process := range processes {
		repository := first.by(NewClient(Options{Locks: shared}))
		for i := range each {
			one := attachment(t, subject, process*each+i)
			made = append(made, one.Descriptor.Digest)
			group.Go(func() {
				if err := repository.PushReferrer(t.Context(), one, subject.Descriptor.Digest); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	var index ocispec.Index
	body := server.Do(http.MethodGet, "/v2/prod/manifests/sha256-"+subject.Descriptor.Digest.Encoded(), nil, nil).Body
	if err := json.Unmarshal(body.Bytes(), &index); err != nil {
		t.Fatal(err)
	}
	for _, one := range made {
		if !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == one && d.ArtifactType == "application/x" }) {
			t.Errorf("%s is lost", one)
		}
	}
	if len(shared.names) != processes*each || len(slices.Compact(shared.names)) != 1 || len(index.Manifests) != len(made) {
		t.Errorf("%d referrers under locks %v", len(index.Manifests), shared.names)
	}
}

type locksFunc func(context.Context, string, func(context.Context) error) error

func (f locksFunc) Do(ctx context.Context, lock string, do func(context.Context) error) error {
	return f(ctx, lock, do)
}

func TestNothingIsWrittenWithoutTheLock(t *testing.T) {
	refused := errors.New("somebody else has it")
	for name, tc := range map[string]struct {
		locks Locks
		want  error
	}{
		"refused": {locksFunc(func(context.Context, string, func(context.Context) error) error { return refused }), refused},
		"lost": {locksFunc(func(ctx context.Context, _ string, do func(context.Context) error) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return do(ctx)
		}), context.Canceled},
	} {
		w := in(t, registrytest.NewWithoutReferrers(t), NewClient(Options{Locks: tc.locks}))
		subject := w.pushed("subject")
		if err := w.PushReferrer(t.Context(), attachment(t, subject, 0), subject.Descriptor.Digest); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if found := w.referrersOf(subject.Descriptor.Digest); len(found) != 0 {
			t.Errorf("%s: wrote %v", name, found)
		}
	}
	// A registry that lists referrers needs none.
	w := in(t, registrytest.New(t), NewClient(Options{Locks: locksFunc(func(context.Context, string, func(context.Context) error) error { return refused })}))
	subject := w.pushed("subject")
	if err := w.PushReferrer(t.Context(), attachment(t, subject, 0), subject.Descriptor.Digest); err != nil {
		t.Error(err)
	}
}

// A goroutine that waits for one of this process gives up when it is told to.
func TestALockIsNotWaitedForLongerThanTheContext(t *testing.T) {
	l := newLocks(nil)
	has, done, finished := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		finished <- l.do(context.Background(), "a", func(context.Context) error { close(has); <-done; return nil })
	}()
	<-has
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.do(ctx, "a", func(context.Context) error { t.Error("two have it"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(done)
	if err := <-finished; err != nil {
		t.Error(err)
	}
	if err := l.do(t.Context(), "a", func(context.Context) error { return nil }); err != nil {
		t.Errorf("it was not given back: %v", err)
	}
}
