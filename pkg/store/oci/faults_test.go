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
)

// faults are what can happen to one request.
var faults = map[string]registrytest.Fault{
	"refused":        registrytest.Status(403, "DENIED"),
	"broken":         registrytest.Status(500, "UNKNOWN"),
	"cut off":        registrytest.HangupDuring,
	"no answer":      registrytest.HangupAfter,
	"half an answer": registrytest.Half,
}

// before are what the registry has when a resource is stored.
var before = map[string]func(w *world, task *v1.Task){
	"nothing":          func(*world, *v1.Task) {},
	"another resource": func(w *world, _ *v1.Task) { w.put(newTask("other", "make")) },
	"another state":    func(w *world, task *v1.Task) { w.put(newTask(task.Name, "before")) },
	"this, not newest": func(w *world, task *v1.Task) { w.put(task); w.put(newTask(task.Name, "before")) },
	"that of another key": func(w *world, task *v1.Task) {
		key, public := newKey(w.T)
		w.putBy(task, key)
		w.ring = trusting(w.T, public, w.key.PublicKey())
	},
}

// eachRequest has a resource stored while one request after the other fails,
// until none is left to fail.
func eachRequest(t *testing.T, start func(*testing.T) *world, prepare func(*world, *v1.Task), task *v1.Task, fault registrytest.Fault, check func(w *world, n int, err error)) {
	t.Helper()
	for n := 1; ; n++ {
		w, failed := start(t), new(atomic.Bool)
		prepare(w, task)
		if _, err := w.Registry.Repository(t.Context(), w.Prefix+"/prod"); err != nil {
			t.Fatal(err)
		}
		w.Fail(registrytest.From(n, func(i int, rw http.ResponseWriter, r *http.Request, next http.Handler) {
			failed.Store(true)
			fault(i, rw, r, next)
		}))
		_, err := w.Put(t.Context(), task, nil, w.key)
		w.Fail(nil)
		if !failed.Load() {
			if err != nil || n < 3 {
				t.Fatalf("%d requests, and then %v", n, err)
			}
			return
		}
		check(w, n, err)
	}
}

func starts() map[string]func(*testing.T) *world {
	return map[string]func(*testing.T) *world{"with referrers": newWorld, "without": newWorldWithoutReferrers}
}

// situation is a registry, what it has, and what goes wrong.
type situation struct {
	name, fault string
	start       func(*testing.T) *world
	prepare     func(*world, *v1.Task)
	fail        registrytest.Fault
}

func situations() []situation {
	all := make([]situation, 0, len(starts())*len(before)*len(faults))
	for registryName, start := range starts() {
		for there, prepare := range before {
			for name, fault := range faults {
				all = append(all, situation{registryName + ", " + there + ", " + name, name, start, prepare, fault})
			}
		}
	}
	return all
}

// The process may be killed, or the network go, before any request.
func TestNoTagIsEverOnABundleWithoutASignature(t *testing.T) {
	t.Parallel()
	for _, s := range situations() {
		eachRequest(t, s.start, s.prepare, newTask("build", "make"), s.fail, func(w *world, n int, err error) {
			if err == nil {
				t.Errorf("%s, request %d: stored all the same", s.name, n)
			}
			for tag := range w.tags() {
				if !w.signed(w.Prefix+"/prod:"+tag, w.ring) {
					t.Errorf("%s, request %d: nobody signed %s", s.name, n, tag)
				}
			}
		})
	}
}

func TestStoringAgainHealsWhatFailed(t *testing.T) {
	t.Parallel()
	for _, s := range situations() {
		task := newTask("build", "make")
		eachRequest(t, s.start, s.prepare, task, s.fail, func(w *world, n int, _ error) {
			if s.fault == "cut off" || s.fault == "no answer" { // the process was killed
				w.restart()
			}
			stored, err := w.Put(t.Context(), task, nil, w.key)
			if err != nil {
				t.Fatalf("%s, request %d: %v", s.name, n, err)
			}
			newest, err := w.Find(t.Context(), IDOf(task), nil, w.ring)
			if err != nil || newest.Reference != stored.Reference || w.put(task).Uploaded {
				t.Errorf("%s, request %d: the newest is %+v (%v)", s.name, n, newest, err)
			}
			w.find(task)
		})
	}
}

// What was said to be stored is, and nothing that was is lost on the way.
func TestAFaultOfOneRequestLosesNothing(t *testing.T) {
	t.Parallel()
	for _, s := range situations() {
		for n, last := 1, false; !last; n++ {
			w, task, failed := s.start(t), newTask("build", "make"), new(atomic.Bool)
			s.prepare(w, task)
			earlier := w.tags()
			w.Fail(registrytest.Nth(n, func(i int, rw http.ResponseWriter, r *http.Request, next http.Handler) {
				failed.Store(true)
				s.fail(i, rw, r, next)
			}))
			_, err := w.Put(t.Context(), task, nil, w.key)
			w.Fail(nil)
			if err == nil {
				w.find(task)
			}
			last = !failed.Load()
			now := slices.Collect(maps.Values(w.tags()))
			for tag, digest := range earlier {
				if !slices.Contains(now, digest) {
					t.Errorf("%s, request %d: %s at %s has no tag any more", s.name, n, digest, tag)
				}
			}
		}
	}
}

// The registry says that it took something, and did not.
func TestAWriteThatIsSwallowedIsNoticed(t *testing.T) {
	task, long := newTask("build", "make"), newLongTask("build")
	for name, tc := range map[string]struct {
		task  *v1.Task
		which func(int, *http.Request) bool
	}{
		"everything":     {task, func(int, *http.Request) bool { return true }},
		"every manifest": {task, registrytest.Asks(http.MethodPut, "/manifests/")},
		"every tag": {task, func(_ int, r *http.Request) bool {
			return r.Method == http.MethodPut && !strings.Contains(r.URL.Path, "sha256:")
		}},
		"the signature": {task, registrytest.Asks(http.MethodPut, "/manifests/sha256:")},
		"the newest":    {task, registrytest.Asks(http.MethodPut, "/manifests/task.build")},
		"every blob":    {long, registrytest.Asks(http.MethodPost, "/blobs/")},
		"the layer":     {long, func(_ int, r *http.Request) bool { return r.Method == http.MethodPost && r.ContentLength > 40_000 }},
	} {
		for registryName, start := range starts() {
			for _, there := range []string{"nothing", "another state", "that of another key"} {
				w := start(t)
				before[there](w, tc.task)
				w.Fail(registrytest.Where(tc.which, registrytest.Swallow))
				if stored, err := w.Put(t.Context(), tc.task, nil, w.key); err == nil {
					t.Errorf("%s, %s, %s: got %+v", registryName, there, name, stored)
				}
				w.Fail(nil)
				w.restart()
				if tc.task == long {
					continue // a registry that has a manifest and not its layer does not heal
				}
				w.put(tc.task)
				w.find(tc.task)
			}
		}
	}
}

// Registries are set up anew, and clean up too much.
func TestARegistryThatLostEverythingGetsItAgain(t *testing.T) {
	for registryName, start := range starts() {
		w := start(t)
		w.Fail(w.Strict)
		task := newTask("build", "make")
		w.put(task)
		w.Wipe(registryName == "with referrers")
		var err error
		for range 2 { // what it has lost is noticed once
			if _, err = w.Put(t.Context(), task, nil, w.key); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", registryName, err)
		}
		w.find(task)
	}
}

func TestABusyRegistryIsLeftAlone(t *testing.T) {
	eachRequest(t, newWorld, before["nothing"], newTask("build", "make"), registrytest.Status(429, "TOOMANYREQUESTS", "Retry-After", "17"), func(_ *world, n int, err error) {
		busy, is := errors.AsType[*registry.BusyError](err)
		if !is || busy.After != 17*time.Second {
			t.Errorf("request %d: got %v", n, err)
		}
	})
}

func TestAQuotaIsTold(t *testing.T) {
	for _, status := range []int{403, 413, 507} {
		eachRequest(t, newWorld, before["another resource"], newTask("build", "make"), registrytest.Status(status, "DENIED"), func(_ *world, n int, err error) {
			if !registry.Unavailable(err) || !strings.Contains(fmt.Sprint(err), "as told") {
				t.Errorf("status %d, request %d: got %v", status, n, err)
			}
		})
	}
}

// Somebody else writes the newest tag while it is read back.
func TestATagThatIsMovedMeanwhileIsNoticed(t *testing.T) {
	w := newWorld(t)
	a, b := newTask("build", "a"), newTask("build", "b")
	w.put(b)
	theirs := must(w.manifest("task.build"))
	w.Fail(func(_ int, rw http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(rw, r)
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/task.build") {
			w.tag("task.build", theirs)
		}
	})
	if stored, err := w.Put(t.Context(), a, nil, w.key); err == nil || !strings.Contains(err.Error(), "something else may be writing") {
		t.Errorf("got %+v and %v", stored, err)
	}
	w.Fail(nil)
	w.put(a)
	w.find(a)
	w.find(b)
}

// The newest state is found by its checksum even if that tag was never written,
// or was deleted.
func TestTheNewestStateIsFoundWithoutItsTag(t *testing.T) {
	for _, start := range starts() {
		w := start(t)
		task := newTask("build", "make")
		checksum, err := resource.Checksum(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		w.Fail(registrytest.Where(registrytest.Asks(http.MethodPut, "/manifests/"+StateTag(checksum)), registrytest.Swallow))
		w.put(task)
		w.Fail(nil)
		w.find(task)
		if signature, err := w.Signature(t.Context(), IDOf(task), checksum); err != nil || !w.key.Verify(signature, checksum) {
			t.Errorf("its signature: %x, %v", signature, err)
		}
	}
}
