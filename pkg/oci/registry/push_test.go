// SPDX-License-Identifier: Apache-2.0

package registry

import (
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

func TestPushBlob_TakesTwoRequests(t *testing.T) {
	f := newFixture(t)
	blob := newBlob("a")
	f.wantRequests(2, "a blob", func() error { return f.repo.PushBlob(t.Context(), blob) })
	if !f.hasBlob(blob) {
		t.Error("the registry does not have the blob")
	}
}

func TestPushSharedBlob_WritesOnceUntilForgotten(t *testing.T) {
	f := newFixture(t)
	push := func() error { return f.repo.PushSharedBlob(t.Context(), EmptyConfig) }
	f.wantRequests(2, "a shared blob", push)
	f.wantRequests(0, "the same blob again", push)
	f.repo.ForgetSharedBlobs()
	f.wantRequests(2, "the same blob after ForgetSharedBlobs", push)
	if !f.hasBlob(EmptyConfig) {
		t.Error("the registry does not have the blob")
	}
}

// One failed upload does not prevent the next one.
func TestPushBlob_ReturnsFaultAndSucceedsAfterwards(t *testing.T) {
	for name, fault := range map[string]registrytest.Fault{
		"status 403":              registrytest.Answer(403, "DENIED"),
		"status 413, quota":       registrytest.Answer(413, "DENIED"),
		"status 507, disk full":   registrytest.Answer(507, "UNKNOWN"),
		"status 500":              registrytest.Answer(500, "UNKNOWN"),
		"upload cut off":          registrytest.CutOff,
		"no response":             registrytest.Drop,
		"status 429, Retry-After": registrytest.Answer(429, "TOOMANYREQUESTS", "Retry-After", "3"),
		"status 400, digest":      registrytest.Answer(400, "DIGEST_INVALID"),
	} {
		f, blob := newFixture(t), newBlob("a")
		f.server.Set(registrytest.Always(fault))
		if err := f.repo.PushBlob(t.Context(), blob); err == nil || name != "status 400, digest" && !Unavailable(err) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := f.repo.PushSharedBlob(t.Context(), blob); err == nil {
			t.Errorf("%s: PushSharedBlob returned no error", name)
		}
		f.server.Set(nil)
		f.wantRequests(2, "a blob after the fault "+name, func() error { return f.repo.PushSharedBlob(t.Context(), blob) })
	}
	f := newFixture(t)
	f.server.Set(registrytest.Always(registrytest.Answer(403, "DENIED")))
	if err := f.repo.PushBlob(t.Context(), newBlob("a")); !strings.Contains(fmt.Sprint(err), registrytest.Message) {
		t.Errorf("the error lacks the message of the registry: %v", err)
	}
}

func TestPushManifest_ReturnsRejection(t *testing.T) {
	for name, status := range map[string]int{"forbidden": 403, "server error": 500, "immutable tag": 409, "202 instead of 201": 202} {
		f := newFixture(t)
		f.server.Set(registrytest.When(registrytest.Request(http.MethodPut, "/manifests/"), registrytest.Answer(status, "DENIED")))
		if err := f.repo.PushManifest(t.Context(), newManifest(t, "x", nil), "tag"); err == nil {
			t.Errorf("%s: got no error", name)
		}
		subject := newManifest(t, "subject", nil)
		if err := f.repo.PushReferrer(t.Context(), newReferrer(t, subject, 0), subject.Descriptor.Digest); !Unavailable(err) || IsNotFound(err) || !strings.Contains(err.Error(), registrytest.Message) {
			t.Errorf("%s: PushReferrer returned %v", name, err)
		}
	}
}

func TestPushReferrer_ListsManifestUnderSubject(t *testing.T) {
	for name, f := range map[string]*fixture{"with referrers API": newFixture(t), "without referrers API": newFixtureWithoutReferrers(t)} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			subject := newManifest(t, "subject", nil)
			for n := range 3 { // the first referrer creates the repository
				referrer := newReferrer(t, subject, n)
				if err := f.repo.PushReferrer(t.Context(), referrer, subject.Descriptor.Digest); err != nil {
					t.Fatal(err)
				}
				if found := f.referrersOf(subject.Descriptor.Digest); len(found) != n+1 || !slices.Contains(found, referrer.Descriptor.Digest) {
					t.Errorf("got %v", found)
				}
			}
			if status, _ := f.fallbackTag(subject); (status == http.StatusOK) != (name == "without referrers API") {
				t.Errorf("the fallback tag has status %d", status)
			}
		})
	}
}

// A single failed request must not make the client write the fallback tag for
// the lifetime of the process.
func TestPushReferrer_FaultDoesNotDisableReferrersAPI(t *testing.T) {
	subject := newManifest(t, "subject", nil)
	for name, fault := range map[string]registrytest.Fault{
		"status 500":         registrytest.Answer(500, "UNKNOWN"),
		"status 403":         registrytest.Answer(403, "DENIED"),
		"no response":        registrytest.Drop,
		"response dropped":   registrytest.DropResponse,
		"write not executed": registrytest.Swallow,
	} {
		for n := 1; ; n++ {
			f, failed := newFixture(t), new(atomic.Bool)
			f.server.Set(registrytest.Nth(n, func(rw http.ResponseWriter, r *http.Request, registry http.Handler) {
				failed.Store(true)
				fault(rw, r, registry)
			}))
			err := f.repo.PushReferrer(t.Context(), newReferrer(t, subject, 0), subject.Descriptor.Digest)
			if !failed.Load() {
				break
			}
			if found := f.referrersOf(subject.Descriptor.Digest); err == nil && len(found) != 1 {
				t.Errorf("%s, request %d: PushReferrer succeeded and the referrer is not listed", name, n)
			}
			f.server.Set(nil)
			if err := f.repo.PushReferrer(t.Context(), newReferrer(t, subject, 1), subject.Descriptor.Digest); err != nil {
				t.Errorf("%s, request %d: the next PushReferrer returned %v", name, n, err)
			}
			if status, _ := f.fallbackTag(subject); status == http.StatusOK {
				t.Errorf("%s, request %d: the client wrote the fallback tag", name, n)
			}
		}
	}
}

// Some registries answer NAME_UNKNOWN if they lack the referrers API.
func TestPushReferrer_UsesFallbackTagAfterNameUnknown(t *testing.T) {
	f := newFixtureWithoutReferrers(t)
	f.server.Set(registrytest.When(registrytest.Request(http.MethodGet, "/referrers/"), registrytest.Answer(404, "NAME_UNKNOWN")))
	subject := f.addManifest("subject")
	referrer := newReferrer(t, subject, 0)
	if err := f.repo.PushReferrer(t.Context(), referrer, subject.Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	if _, index := f.fallbackTag(subject); !strings.Contains(string(index), referrer.Descriptor.Digest.Encoded()) {
		t.Errorf("the fallback tag is %s", index)
	}
}

func TestPushReferrer_FailsIfReferrerIsNotListed(t *testing.T) {
	for name, f := range map[string]*fixture{"with referrers API": newFixture(t), "without referrers API": newFixtureWithoutReferrers(t)} {
		subject := newManifest(t, "subject", nil)
		f.addManifest("other")
		f.server.Set(registrytest.Always(registrytest.Swallow))
		if err := f.repo.PushReferrer(t.Context(), newReferrer(t, subject, 0), subject.Descriptor.Digest); err == nil || !strings.Contains(err.Error(), "does not list") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Adding to the fallback tag means to read, change and write an index. Without
// locks, concurrent writers would lose referrers.
func TestPushReferrer_ConcurrentWritersLoseNoReferrer(t *testing.T) {
	const processes, each = 3, 4
	server := registrytest.NewWithoutReferrers(t)
	shared := &sharedLocks{}
	first := newFixtureOn(t, server, NewClient(Options{}))
	subject := first.addManifest("subject")
	var group sync.WaitGroup
	pushed := make([]digest.Digest, 0, processes*each)
	for process := range processes {
		repository := first.repositoryOf(NewClient(Options{Locks: shared}))
		for i := range each {
			referrer := newReferrer(t, subject, process*each+i)
			pushed = append(pushed, referrer.Descriptor.Digest)
			group.Go(func() {
				if err := repository.PushReferrer(t.Context(), referrer, subject.Descriptor.Digest); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	var index ocispec.Index
	_, body := first.fallbackTag(subject)
	if err := json.Unmarshal(body, &index); err != nil {
		t.Fatal(err)
	}
	for _, referrer := range pushed {
		if !slices.ContainsFunc(index.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == referrer && d.ArtifactType == "application/x" }) {
			t.Errorf("referrer %s is lost", referrer)
		}
	}
	if len(shared.names) != processes*each || len(slices.Compact(shared.names)) != 1 || len(index.Manifests) != len(pushed) {
		t.Errorf("got %d referrers and locks %v", len(index.Manifests), shared.names)
	}
}

type locksFunc func(context.Context, string, func(context.Context) error) error

func (f locksFunc) Do(ctx context.Context, lock string, do func(context.Context) error) error {
	return f(ctx, lock, do)
}

func TestPushReferrer_WritesNothingWithoutLock(t *testing.T) {
	refused := errors.New("another process holds the lock")
	for name, tc := range map[string]struct {
		locks Locks
		want  error
	}{
		"lock not acquired": {locksFunc(func(context.Context, string, func(context.Context) error) error { return refused }), refused},
		"lock lost": {locksFunc(func(ctx context.Context, _ string, do func(context.Context) error) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return do(ctx)
		}), context.Canceled},
	} {
		f := newFixtureOn(t, registrytest.NewWithoutReferrers(t), NewClient(Options{Locks: tc.locks}))
		subject := f.addManifest("subject")
		if err := f.repo.PushReferrer(t.Context(), newReferrer(t, subject, 0), subject.Descriptor.Digest); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if found := f.referrersOf(subject.Descriptor.Digest); len(found) != 0 {
			t.Errorf("%s: the client wrote %v", name, found)
		}
	}
	// With the referrers API, no lock is needed.
	f := newFixtureOn(t, registrytest.New(t), NewClient(Options{Locks: locksFunc(func(context.Context, string, func(context.Context) error) error { return refused })}))
	subject := f.addManifest("subject")
	if err := f.repo.PushReferrer(t.Context(), newReferrer(t, subject, 0), subject.Descriptor.Digest); err != nil {
		t.Error(err)
	}
}

func TestReferrerLocks_WaitingEndsWithContext(t *testing.T) {
	l := newReferrerLocks(nil)
	held, release, finished := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		finished <- l.do(context.Background(), "a", func(context.Context) error { close(held); <-release; return nil })
	}()
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.do(ctx, "a", func(context.Context) error { t.Error("two goroutines hold one lock"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-finished; err != nil {
		t.Error(err)
	}
	if err := l.do(t.Context(), "a", func(context.Context) error { return nil }); err != nil {
		t.Errorf("the lock was not released: %v", err)
	}
}
