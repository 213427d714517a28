// SPDX-License-Identifier: Apache-2.0

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
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

func TestFind_ReturnsWhatPutWrote(t *testing.T) {
	for _, object := range []resource.Object{newTask("build", "make"), newPipeline(), newStepAction(), newLongTask("build"), newTask("n"+strings.Repeat(".n", 126), "make")} {
		for name, f := range map[string]*fixture{"with referrers API": newFixture(t), "without referrers API": newFixtureWithoutReferrers(t)} {
			result := f.put(object)
			found := f.find(object)
			if !result.Uploaded || found.Reference != result.Reference || !slices.Equal(found.Signers, []string{f.key.ID}) || found.Resources[0].Signer != f.key.ID || len(found.Unverified) != 0 {
				t.Errorf("%s: got %+v and %+v", name, result, found)
			}
			newest, err := f.store.Find(t.Context(), IDOf(object), nil, f.ring)
			if err != nil || newest.Reference != result.Reference {
				t.Errorf("%s: the newest is %+v (%v)", name, newest, err)
			}
			byDigest, err := Inspect(t.Context(), f.store.Registry, result.Reference, f.ring)
			if err != nil || byDigest.Reference != result.Reference || !slices.Equal(byDigest.Signers, found.Signers) {
				t.Errorf("%s: by digest %+v (%v)", name, byDigest, err)
			}
			if tag := f.tags()[result.Tag]; !strings.HasSuffix(result.Reference, "@"+tag) {
				t.Errorf("%s: tag %s is %s", name, result.Tag, tag)
			}
		}
	}
}

func TestPutAndFind_NumberOfRequests(t *testing.T) {
	f := newFixture(t)
	f.put(newTask("other", "make")) // the first request to a repository takes additional ones
	a, b := newTask("build", "a"), newTask("build", "b")
	put := func(obj resource.Object) func() error {
		return func() error {
			_, err := f.store.Put(t.Context(), obj, nil, f.key, tekton.Newest)
			return err
		}
	}
	find := func(obj resource.Object, checksum []byte) func() error {
		return func() error { _, err := f.store.Find(t.Context(), IDOf(obj), checksum, f.ring); return err }
	}
	for _, step := range []struct {
		operation        string
		object           resource.Object
		requests, writes int
	}{
		{"Put of the first state", a, 10, 7},
		{"Put of the newest state", a, 1, 0},
		{"Put of a second state", b, 11, 7},
		{"Put of the newest state", b, 1, 0},
		{"Put of the first state again", a, 4, 1},
		{"Put of the newest state", a, 1, 0},
	} {
		if writes := f.wantRequests(step.requests, step.operation, put(step.object)); len(writes) != step.writes {
			t.Errorf("%s: wrote %q", step.operation, writes)
		}
	}
	f.wantRequests(3, "Find of a state", find(a, f.checksum(a)))
	f.wantRequests(3, "Find of the newest state", find(a, nil))
	f.restart()
	f.wantRequests(2, "Put of the newest state after a restart", put(a))
	long := newLongTask("long")
	f.wantRequests(14, "Put of a layer that is not inlined, and the first referrer since the restart", put(long))
	f.wantRequests(4, "Find of a layer that is not inlined", find(long, f.checksum(long)))
}

func TestPut_UploadedReportsWrites(t *testing.T) {
	f := newFixture(t)
	a, b := newTask("build", "a"), newTask("build", "b")
	for i, step := range []struct {
		object   *v1.Task
		uploaded bool
	}{{a, true}, {a, false}, {b, true}, {b, false}, {a, true}, {a, false}} {
		if result := f.put(step.object); result.Uploaded != step.uploaded {
			t.Errorf("step %d: got %+v", i, result)
		}
	}
}

// All states keep their tags.
func TestPut_RevertMovesNewestTagBack(t *testing.T) {
	f := newFixture(t)
	a, b := newTask("build", "a"), newTask("build", "b")
	first, second := f.put(a), f.put(b)
	again := f.put(a)
	if first.Reference != again.Reference || first.Reference == second.Reference {
		t.Errorf("got %+v, %+v, %+v", first, second, again)
	}
	if newest, err := f.store.Find(t.Context(), IDOf(a), nil, f.ring); err != nil || newest.Reference != first.Reference {
		t.Errorf("the newest is %+v (%v)", newest, err)
	}
	f.find(a)
	f.find(b)
	if tags := f.tags(); len(tags) != 3 {
		t.Errorf("got %v", tags)
	}
}

// Registries delete manifests without a tag.
func TestPut_TagsBundleOfPreviousKey(t *testing.T) {
	f := newFixture(t)
	task := newTask("build", "make")
	old := f.put(task)
	oldRing := f.ring
	key, public := newKey(t)
	f.ring = trusting(t, public)
	if _, err := f.store.Find(t.Context(), IDOf(task), f.checksum(task), f.ring); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("Find with the new key before Put: %v", err)
	}
	rotated := f.putBy(task, key)
	if found := f.find(task); rotated.Reference == old.Reference || found.Reference != rotated.Reference {
		t.Errorf("Put returned %+v after %+v, and Find %+v", rotated, old, found)
	}
	if again := f.putBy(task, key); again.Uploaded || again.Reference != rotated.Reference {
		t.Errorf("Put again: %+v", again)
	}
	tagged := slices.Sorted(maps.Values(f.tags()))
	for _, result := range []PutResult{old, rotated} {
		_, digest, _ := strings.Cut(result.Reference, "@")
		if !slices.Contains(tagged, digest) {
			t.Errorf("%s is not among the tags %v", digest, f.tags())
		}
	}
	if found, err := Inspect(t.Context(), f.store.Registry, old.Reference, oldRing); err != nil || found.CheckTrust() != nil {
		t.Errorf("the old bundle: %+v (%v)", found, err)
	}
	// The rotation is undfirst.
	back := f.putBy(task, f.key)
	if _, err := f.store.Find(t.Context(), IDOf(task), f.checksum(task), oldRing); err != nil || len(f.tags()) != 4 {
		t.Errorf("got %+v, %v and tags %v", back, err, f.tags())
	}
}

// The bundle does not depend on the cluster or the machine.
func TestPut_SameSignatureGivesSameDigest(t *testing.T) {
	task := newTask("build", "make")
	first, second := newFixture(t), newFixtureWithoutReferrers(t)
	signature := must(first.key.Sign(t.Context(), first.checksum(task)))
	a := must(first.store.Put(t.Context(), task, signature, first.key, tekton.Newest))
	otherCluster := task.DeepCopy()
	otherCluster.UID, otherCluster.ResourceVersion = "uid", "7"
	otherCluster.SetDefaults(t.Context())
	b := must(second.store.Put(t.Context(), otherCluster, signature, first.key, tekton.Newest))
	_, digestA, _ := strings.Cut(a.Reference, "@")
	_, digestB, _ := strings.Cut(b.Reference, "@")
	if digestA != digestB {
		t.Errorf("got %s and %s", digestA, digestB)
	}
	if again := must(first.store.Put(t.Context(), otherCluster, signature, first.key, tekton.Newest)); again.Uploaded {
		t.Error("Put uploaded the same bundle again")
	}
	if got, err := first.store.Signature(t.Context(), IDOf(task), first.checksum(task)); err != nil || !bytes.Equal(got, signature) {
		t.Errorf("Signature returned %x (%v)", got, err)
	}
	// Put uses the persisted signature of the same key.
	if again := first.put(task); again.Uploaded || again.Reference != a.Reference {
		t.Errorf("got %+v", again)
	}
}

func TestPut_KeepsKindsWithSameNameApart(t *testing.T) {
	f := newFixture(t)
	all := []resource.Object{newTask("build", "make"), newPipeline(), newStepAction()}
	for _, object := range all {
		f.put(object)
	}
	for _, object := range all {
		found := f.find(object)
		newest, err := f.store.Find(t.Context(), IDOf(object), nil, f.ring)
		if err != nil || newest.Reference != found.Reference || f.put(object).Uploaded {
			t.Errorf("%T: the newest is %+v (%v)", object, newest, err)
		}
	}
}

func TestPut_RejectsInvalidResources(t *testing.T) {
	f := newFixture(t)
	long := newTask("build", strings.Repeat("x", 4<<20))
	noName, noNamespace, outside := newTask("", "x"), newTask("build", "x"), newTask("build", "x")
	noNamespace.Namespace, outside.Namespace = "", "../other"
	old := &v1beta1.Task{} //nolint:staticcheck // a version that Tekton still has
	old.Name, old.Namespace = "build", "prod"
	for name, object := range map[string]resource.Object{
		"too long": long, "no name": noName, "no namespace": noNamespace, "namespace is a path": outside, "v1beta1 Task": old,
	} {
		if result, err := f.store.Put(t.Context(), object, nil, f.key, tekton.Newest); err == nil {
			t.Errorf("%s: got %+v", name, result)
		}
	}
	if tags := f.tags(); len(tags) != 0 {
		t.Errorf("the registry has the tags %v", tags)
	}
}

// In any order of the writers, Find finds all states, and the newest state is one
// of them.
func TestPut_ConcurrentWritersLoseNoState(t *testing.T) {
	for name, server := range map[string]*registrytest.Server{"with referrers API": registrytest.New(t), "without referrers API": registrytest.NewWithoutReferrers(t)} {
		f := newFixtureOn(t, server)
		var group sync.WaitGroup
		const writers = 8
		states := make([]*v1.Task, 0, writers)
		for n := range writers {
			state := newTask("build", fmt.Sprint(n))
			states = append(states, state)
			store := f.store
			if n%2 == 0 {
				store = newFixtureOn(t, server).store // another process
			}
			group.Go(func() {
				for range 50 { // Put returns an error if another writer moves the newest tag
					if _, err := store.Put(t.Context(), state, nil, f.key, tekton.Newest); err == nil {
						return
					}
				}
				t.Errorf("%s: 50 calls of Put failed", name)
			})
		}
		group.Wait()
		for _, state := range states {
			f.find(state)
		}
		if newest, err := f.store.Find(t.Context(), IDOf(states[0]), nil, f.ring); err != nil {
			t.Errorf("%s: the newest is %+v (%v)", name, newest, err)
		}
	}
}
