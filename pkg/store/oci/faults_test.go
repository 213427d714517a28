// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// requestFaults are the faults that the tests inject into each request.
var requestFaults = map[string]registrytest.Fault{
	"status 403":         registrytest.Answer(403, "DENIED"),
	"status 500":         registrytest.Answer(500, "UNKNOWN"),
	"request cut off":    registrytest.CutOff,
	"response dropped":   registrytest.DropResponse,
	"response truncated": registrytest.TruncateResponse,
}

// initialStates prepare the content of the registry before the tested Put.
var initialStates = map[string]func(f *fixture, task *v1.Task){
	"empty registry":         func(*fixture, *v1.Task) {},
	"another resource":       func(f *fixture, _ *v1.Task) { f.put(newTask("other", "make")) },
	"another state":          func(f *fixture, task *v1.Task) { f.put(newTask(task.Name, "other")) },
	"same state, not newest": func(f *fixture, task *v1.Task) { f.put(task); f.put(newTask(task.Name, "other")) },
	"same state, another key": func(f *fixture, task *v1.Task) {
		key, public := newKey(f.t)
		f.putBy(task, key)
		f.ring = trusting(f.t, public, f.key.PublicKey())
	},
}

// forEachFailingRequest calls Put again and again, each time on a new registry.
// In the n-th round the n-th request and all later ones get the fault. It ends
// when Put sends fewer than n requests.
func forEachFailingRequest(t *testing.T, start func(*testing.T) *fixture, prepare func(*fixture, *v1.Task), task *v1.Task, fault registrytest.Fault, check func(f *fixture, n int, err error)) {
	t.Helper()
	for n := 1; ; n++ {
		f, failed := start(t), new(atomic.Bool)
		prepare(f, task)
		if _, err := f.store.Registry.Repository(t.Context(), f.store.Prefix+"/prod"); err != nil {
			t.Fatal(err)
		}
		f.server.Set(registrytest.From(n, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			failed.Store(true)
			fault(w, r, next)
		}))
		_, err := f.store.Put(t.Context(), task, nil, f.key, tekton.Newest)
		f.server.Set(nil)
		if !failed.Load() {
			if err != nil || n < 3 {
				t.Fatalf("Put took %d requests and returned %v", n, err)
			}
			return
		}
		check(f, n, err)
	}
}

// registryKinds are constructors of fixtures.
func registryKinds() map[string]func(*testing.T) *fixture {
	return map[string]func(*testing.T) *fixture{"with referrers API": newFixture, "without referrers API": newFixtureWithoutReferrers}
}

// scenario is a kind of registry, its initial content and a fault.
type scenario struct {
	name, faultName string
	start           func(*testing.T) *fixture
	prepare         func(*fixture, *v1.Task)
	fault           registrytest.Fault
}

// scenarios returns all combinations.
func scenarios() []scenario {
	all := make([]scenario, 0, len(registryKinds())*len(initialStates)*len(requestFaults))
	for registryKind, start := range registryKinds() {
		for initial, prepare := range initialStates {
			for faultName, fault := range requestFaults {
				all = append(all, scenario{registryKind + ", " + initial + ", " + faultName, faultName, start, prepare, fault})
			}
		}
	}
	return all
}

// The process may be killed, or the network may fail, before any request.
func TestPut_NeverTagsUnsignedBundle(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		forEachFailingRequest(t, s.start, s.prepare, newTask("build", "make"), s.fault, func(f *fixture, n int, err error) {
			if err == nil {
				t.Errorf("%s, request %d: Put returned no error", s.name, n)
			}
			for tag := range f.tags() {
				if !f.signed(f.store.Prefix+"/prod:"+tag, f.ring) {
					t.Errorf("%s, request %d: tag %s refers to an unsigned bundle", s.name, n, tag)
				}
			}
		})
	}
}

func TestPut_RetryRepairsFailedPut(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		task := newTask("build", "make")
		forEachFailingRequest(t, s.start, s.prepare, task, s.fault, func(f *fixture, n int, _ error) {
			if s.faultName == "request cut off" || s.faultName == "response dropped" { // as if the process had been killed
				f.restart()
			}
			result, err := f.store.Put(t.Context(), task, nil, f.key, tekton.Newest)
			if err != nil {
				t.Fatalf("%s, request %d: %v", s.name, n, err)
			}
			newest, err := f.store.Find(t.Context(), IDOf(task), nil, f.ring)
			if err != nil || newest.Reference != result.Reference || f.put(task).Uploaded {
				t.Errorf("%s, request %d: the newest is %+v (%v)", s.name, n, newest, err)
			}
			f.find(task)
		})
	}
}

// If Put succeeds, the bundle is complete. No earlier bundle loses its last tag.
func TestPut_SingleFaultLosesNoBundle(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		for n, last := 1, false; !last; n++ {
			f, task, failed := s.start(t), newTask("build", "make"), new(atomic.Bool)
			s.prepare(f, task)
			earlier := f.tags()
			f.server.Set(registrytest.Nth(n, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				failed.Store(true)
				s.fault(w, r, next)
			}))
			_, err := f.store.Put(t.Context(), task, nil, f.key, tekton.Newest)
			f.server.Set(nil)
			if err == nil {
				f.find(task)
			}
			last = !failed.Load()
			now := slices.Collect(maps.Values(f.tags()))
			for tag, digest := range earlier {
				if !slices.Contains(now, digest) {
					t.Errorf("%s, request %d: manifest %s, before at tag %s, has no tag any more", s.name, n, digest, tag)
				}
			}
		}
	}
}

// The registry reports success for a write and does not execute it.
func TestPut_DetectsWriteThatWasNotExecuted(t *testing.T) {
	task, long := newTask("build", "make"), newLongTask("build")
	for name, tc := range map[string]struct {
		task  *v1.Task
		match func(*http.Request) bool
	}{
		"every write":    {task, func(*http.Request) bool { return true }},
		"every manifest": {task, registrytest.Request(http.MethodPut, "/manifests/")},
		"every tag": {task, func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") && !strings.Contains(r.URL.Path, "sha256:")
		}},
		"the signature":  {task, registrytest.Request(http.MethodPut, "/manifests/sha256:")},
		"the newest tag": {task, registrytest.Request(http.MethodPut, "/manifests/task.build")},
		"every blob":     {long, registrytest.Request(http.MethodPut, "/blobs/")},
		"the layer":      {long, func(r *http.Request) bool { return r.Method == http.MethodPut && r.ContentLength > 40_000 }},
	} {
		for registryKind, start := range registryKinds() {
			for _, initial := range []string{"empty registry", "another state", "same state, another key"} {
				f := start(t)
				initialStates[initial](f, tc.task)
				f.server.Set(registrytest.When(tc.match, registrytest.Swallow))
				if result, err := f.store.Put(t.Context(), tc.task, nil, f.key, tekton.Newest); err == nil {
					t.Errorf("%s, %s, %s: got %+v", registryKind, initial, name, result)
				}
				f.server.Set(nil)
				f.restart()
				if tc.task == long {
					continue // Put does not upload a missing layer if the manifest exists
				}
				f.put(tc.task)
				f.find(tc.task)
			}
		}
	}
}

// A registry may be replaced, or delete too much in a cleanup.
func TestPut_UploadsAgainAfterRegistryLostContent(t *testing.T) {
	for registryKind, start := range registryKinds() {
		f := start(t)
		f.server.Set(registrytest.Always(registrytest.RejectIncomplete))
		task := newTask("build", "make")
		f.put(task)
		f.server.Wipe()
		var err error
		for range 2 { // the first Put may fail and then forgets what the registry had
			if _, err = f.store.Put(t.Context(), task, nil, f.key, tekton.Newest); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", registryKind, err)
		}
		f.find(task)
	}
}

func TestPut_ReturnsBusyErrorForRetryAfter(t *testing.T) {
	forEachFailingRequest(t, newFixture, initialStates["empty registry"], newTask("build", "make"), registrytest.Answer(429, "TOOMANYREQUESTS", "Retry-After", "17"), func(_ *fixture, n int, err error) {
		busy, isBusy := errors.AsType[*registry.BusyError](err)
		if !isBusy || busy.After != 17*time.Second {
			t.Errorf("request %d: got %v", n, err)
		}
	})
}

func TestPut_ReturnsMessageOfRegistry(t *testing.T) {
	for _, status := range []int{403, 413, 507} {
		forEachFailingRequest(t, newFixture, initialStates["another resource"], newTask("build", "make"), registrytest.Answer(status, "DENIED"), func(_ *fixture, n int, err error) {
			if !registry.Unavailable(err) || !strings.Contains(fmt.Sprint(err), registrytest.Message) {
				t.Errorf("status %d, request %d: got %v", status, n, err)
			}
		})
	}
}

// Another writer moves the newest tag before Put reads it back.
func TestPut_DetectsMovedTag(t *testing.T) {
	f := newFixture(t)
	a, b := newTask("build", "a"), newTask("build", "b")
	f.put(b)
	other := must(f.manifest("task.build"))
	f.server.Set(registrytest.Always(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(w, r)
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/task.build") {
			f.writeTag("task.build", other)
		}
	}))
	if result, err := f.store.Put(t.Context(), a, nil, f.key, tekton.Newest); err == nil || !strings.Contains(err.Error(), "something else may be writing") {
		t.Errorf("got %+v and %v", result, err)
	}
	f.server.Set(nil)
	f.put(a)
	f.find(a)
	f.find(b)
}

// The state tag of the newest state may be missing, for example because somebody
// deleted it.
func TestFind_FindsNewestStateWithoutStateTag(t *testing.T) {
	for _, start := range registryKinds() {
		f := start(t)
		task := newTask("build", "make")
		checksum, err := resource.Checksum(t.Context(), task, tekton.Newest)
		if err != nil {
			t.Fatal(err)
		}
		f.server.Set(registrytest.When(registrytest.Request(http.MethodPut, "/manifests/"+StateTag(checksum)), registrytest.Swallow))
		f.put(task)
		f.server.Set(nil)
		f.find(task)
		if signature, err := f.store.Signature(t.Context(), IDOf(task), checksum); err != nil || !f.key.Verify(signature, checksum) {
			t.Errorf("Signature returned %x, %v", signature, err)
		}
	}
}
