package oci

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func TestWhatIsStoredIsFound(t *testing.T) {
	for _, object := range []resource.Object{newTask("build", "make"), newPipeline(), newStepAction(), newLongTask("build"), newTask("n"+strings.Repeat(".n", 126), "make")} {
		for name, w := range map[string]*world{"with referrers": newWorld(t), "without": newWorldWithoutReferrers(t)} {
			stored := w.put(object)
			found := w.find(object)
			if !stored.Uploaded || found.Reference != stored.Reference || !slices.Equal(found.Signers, []string{w.key.ID}) || found.Resources[0].Signer != w.key.ID || len(found.Unverified) != 0 {
				t.Errorf("%s: got %+v and %+v", name, stored, found)
			}
			newest, err := w.Find(t.Context(), IDOf(object), nil, w.ring)
			if err != nil || newest.Reference != stored.Reference {
				t.Errorf("%s: the newest is %+v (%v)", name, newest, err)
			}
			byDigest, err := Inspect(t.Context(), w.Registry, stored.Reference, w.ring)
			if err != nil || byDigest.Reference != stored.Reference || !slices.Equal(byDigest.Signers, found.Signers) {
				t.Errorf("%s: by digest %+v (%v)", name, byDigest, err)
			}
			if tag := w.tags()[stored.Tag]; !strings.HasSuffix(stored.Reference, "@"+tag) {
				t.Errorf("%s: tag %s is %s", name, stored.Tag, tag)
			}
		}
	}
}

func TestRequestsThatStoringAndRetrievingTake(t *testing.T) {
	w := newWorld(t)
	w.put(newTask("other", "make")) // the first contact with the repository takes more
	a, b := newTask("build", "a"), newTask("build", "b")
	store := func(obj resource.Object) func() error {
		return func() error { _, err := w.Put(t.Context(), obj, nil, w.key); return err }
	}
	for _, step := range []struct {
		what               string
		object             resource.Object
		requests, writings int
	}{
		{"the first state", a, 8, 5}, {"it again", a, 1, 0}, {"a new state", b, 9, 5}, {"it again", b, 1, 0},
		{"the first one again", a, 4, 1}, {"it again", a, 1, 0},
	} {
		if writings := w.count(step.requests, step.what, store(step.object)); len(writings) != step.writings {
			t.Errorf("%s: wrote %q", step.what, writings)
		}
	}
	w.count(3, "retrieving", func() error { _, err := w.Find(t.Context(), IDOf(a), w.sum(a), w.ring); return err })
	w.count(3, "retrieving the newest", func() error { _, err := w.Find(t.Context(), IDOf(a), nil, w.ring); return err })
	w.restart()
	w.count(2, "what is stored, after a restart,", store(a))
	long := newLongTask("long")
	w.count(11, "what the manifest does not carry, with a first look at the referrers", store(long))
	w.count(4, "retrieving that", func() error { _, err := w.Find(t.Context(), IDOf(long), w.sum(long), w.ring); return err })
}

func TestUploadedSaysWhetherAnythingWas(t *testing.T) {
	w := newWorld(t)
	a, b := newTask("build", "a"), newTask("build", "b")
	for i, step := range []struct {
		object   *v1.Task
		uploaded bool
	}{{a, true}, {a, false}, {b, true}, {b, false}, {a, true}, {a, false}} {
		if stored := w.put(step.object); stored.Uploaded != step.uploaded {
			t.Errorf("step %d: got %+v", i, stored)
		}
	}
}

// Every state stays, whatever the newest is.
func TestARevertMovesTheNewestBack(t *testing.T) {
	w := newWorld(t)
	a, b := newTask("build", "a"), newTask("build", "b")
	first, second := w.put(a), w.put(b)
	again := w.put(a)
	if first.Reference != again.Reference || first.Reference == second.Reference {
		t.Errorf("got %+v, %+v, %+v", first, second, again)
	}
	if newest, err := w.Find(t.Context(), IDOf(a), nil, w.ring); err != nil || newest.Reference != first.Reference {
		t.Errorf("the newest is %+v (%v)", newest, err)
	}
	w.find(a)
	w.find(b)
	if tags := w.tags(); len(tags) != 3 {
		t.Errorf("got %v", tags)
	}
}

// Registries clean up what has no tag.
func TestWhatAnotherKeySignedKeepsATag(t *testing.T) {
	w := newWorld(t)
	task := newTask("build", "make")
	old := w.put(task)
	oldRing := w.ring
	key, public := newKey(t)
	w.ring = trusting(t, public)
	if _, err := w.Find(t.Context(), IDOf(task), w.sum(task), w.ring); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("with the new key, before: %v", err)
	}
	rotated := w.putBy(task, key)
	if found := w.find(task); rotated.Reference == old.Reference || found.Reference != rotated.Reference {
		t.Errorf("got %+v after %+v, and found %+v", rotated, old, found)
	}
	if again := w.putBy(task, key); again.Uploaded || again.Reference != rotated.Reference {
		t.Errorf("again: %+v", again)
	}
	tagged := slices.Sorted(maps.Values(w.tags()))
	for _, stored := range []Stored{old, rotated} {
		_, digest, _ := strings.Cut(stored.Reference, "@")
		if !slices.Contains(tagged, digest) {
			t.Errorf("%s has no tag of %v", digest, w.tags())
		}
	}
	if found, err := Inspect(t.Context(), w.Registry, old.Reference, oldRing); err != nil || found.CheckTrust() != nil {
		t.Errorf("the old one: %+v (%v)", found, err)
	}
	// And back, as when a rotation is undone.
	back := w.putBy(task, w.key)
	if _, err := w.Find(t.Context(), IDOf(task), w.sum(task), oldRing); err != nil || len(w.tags()) != 4 {
		t.Errorf("got %+v, %v and tags %v", back, err, w.tags())
	}
}

// What differs between machines is not in the bundle.
func TestTheSameSignatureMakesTheSameBundleEverywhere(t *testing.T) {
	task := newTask("build", "make")
	one, another := newWorld(t), newWorldWithoutReferrers(t)
	signature := must(one.key.Sign(t.Context(), one.sum(task)))
	a := must(one.Put(t.Context(), task, signature, one.key))
	elsewhere := task.DeepCopy()
	elsewhere.UID, elsewhere.ResourceVersion = "uid", "7"
	elsewhere.SetDefaults(t.Context())
	b := must(another.Put(t.Context(), elsewhere, signature, one.key))
	_, digestA, _ := strings.Cut(a.Reference, "@")
	_, digestB, _ := strings.Cut(b.Reference, "@")
	if digestA != digestB {
		t.Errorf("got %s and %s", digestA, digestB)
	}
	if again := must(one.Put(t.Context(), elsewhere, signature, one.key)); again.Uploaded {
		t.Error("it was uploaded again")
	}
	if got, err := one.Signature(t.Context(), IDOf(task), one.sum(task)); err != nil || !bytes.Equal(got, signature) {
		t.Errorf("the signature is %x (%v)", got, err)
	}
	// A key signs one resource twice, and the first signature is kept.
	if again := one.put(task); again.Uploaded || again.Reference != a.Reference {
		t.Errorf("got %+v", again)
	}
}

func TestKindsOfOneNameDoNotGetInEachOthersWay(t *testing.T) {
	w := newWorld(t)
	all := []resource.Object{newTask("build", "make"), newPipeline(), newStepAction()}
	for _, object := range all {
		w.put(object)
	}
	for _, object := range all {
		found := w.find(object)
		newest, err := w.Find(t.Context(), IDOf(object), nil, w.ring)
		if err != nil || newest.Reference != found.Reference || w.put(object).Uploaded {
			t.Errorf("%T: the newest is %+v (%v)", object, newest, err)
		}
	}
}

func TestWhatCannotBeStored(t *testing.T) {
	w := newWorld(t)
	long := newTask("build", strings.Repeat("x", 4<<20))
	noName, noNamespace, outside := newTask("", "x"), newTask("build", "x"), newTask("build", "x")
	noNamespace.Namespace, outside.Namespace = "", "../other"
	old := &v1beta1.Task{} //nolint:staticcheck // a version that Tekton still has
	old.Name, old.Namespace = "build", "prod"
	for name, object := range map[string]resource.Object{
		"too long": long, "no name": noName, "no namespace": noNamespace, "another place": outside, "an old version": old,
	} {
		if stored, err := w.Put(t.Context(), object, nil, w.key); err == nil {
			t.Errorf("%s: got %+v", name, stored)
		}
	}
	if tags := w.tags(); len(tags) != 0 {
		t.Errorf("wrote %v", tags)
	}
}

// Whoever comes first: all states are found, and the newest is one of them.
func TestWritersOfOneResourceAtATime(t *testing.T) {
	for name, server := range map[string]*registrytest.Server{"with referrers": registrytest.New(t), "without": registrytest.NewWithoutReferrers(t)} {
		w := in(t, server)
		var group sync.WaitGroup
		const writers = 8
		states := make([]*v1.Task, 0, writers)
		for n := range writers {
			state := newTask("build", fmt.Sprint(n))
			states = append(states, state)
			store := w.Store
			if n%2 == 0 {
				store = in(t, server).Store // another process
			}
			group.Go(func() {
				for range 50 { // each tells when it was disturbed
					if _, err := store.Put(t.Context(), state, nil, w.key); err == nil {
						return
					}
				}
				t.Errorf("%s: a state was never stored", name)
			})
		}
		group.Wait()
		for _, state := range states {
			w.find(state)
		}
		if newest, err := w.Find(t.Context(), IDOf(states[0]), nil, w.ring); err != nil {
			t.Errorf("%s: the newest is %+v (%v)", name, newest, err)
		}
	}
}
