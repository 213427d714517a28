// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
)

// rotated is a registry with a bundle of one key, and a newer one of the same state of
// another key.
type rotated struct {
	*fixture

	task    *v1.Task
	old     PutResult
	next    *keys.Key
	oldRing *keys.Ring // knows only the old key
	newRing *keys.Ring // knows only the next key
	both    *keys.Ring
	newer   PutResult
}

func rotate(f *fixture, task *v1.Task) *rotated {
	f.t.Helper()
	next, public := newKey(f.t)
	r := &rotated{
		fixture: f, task: task, next: next,
		oldRing: f.ring, newRing: trusting(f.t, public), both: trusting(f.t, public, f.key.PublicKey()),
	}
	r.old = f.putBy(task, f.key)
	r.newer = f.putBy(task, next)
	return r
}

func (r *rotated) signEarlier(tag string, known *keys.Ring) (bool, error) {
	_, signed, err := r.store.SignEarlier(r.t.Context(), IDOf(r.task), r.checksum(r.task), tag, r.next, known)
	return signed, err
}

func (r *rotated) earlier() []string {
	r.t.Helper()
	return must(r.store.Earlier(r.t.Context(), IDOf(r.task), r.checksum(r.task)))
}

func TestSignEarlier_AddsOneSignature(t *testing.T) {
	for registryKind, start := range registryKinds() {
		for name, task := range map[string]*v1.Task{"short": newTask("build", "make"), "long": newLongTask("build")} {
			t.Run(registryKind+", "+name, func(t *testing.T) { rotate(start(t), task).checkEarlier() })
		}
	}
}

func (r *rotated) checkEarlier() {
	r.t.Helper()
	digest := r.old.Reference[strings.Index(r.old.Reference, "@")+1:]
	if r.newer.Displaced != digest || r.old.Displaced != "" {
		r.t.Errorf("Put displaced %q and then %q, want nothing and then %q", r.old.Displaced, r.newer.Displaced, digest)
	}
	if r.signed(r.old.Reference, r.newRing) {
		r.t.Fatal("the old bundle has a signature of the next key before somebody made one")
	}
	for i, earlier := range append(r.earlier(), digest) { // the same bundle by tag and by digest
		if signed, err := r.signEarlier(earlier, r.both); err != nil || signed != (i == 0) {
			r.t.Errorf("%s was signed: %t (%v)", earlier, signed, err)
		}
	}
	if !r.signed(r.old.Reference, r.newRing) || !r.signed(r.old.Reference, r.oldRing) {
		r.t.Error("cosign does not verify the old bundle with each of the keys")
	}
	if r.signed(r.newer.Reference, r.oldRing) {
		r.t.Error("cosign verifies the new bundle with the old key")
	}
	if found := must(Inspect(r.t.Context(), r.store.Registry, r.old.Reference, r.both)); len(found.Signers) != 2 || len(found.Unverified) != 0 {
		r.t.Errorf("signers %v, not counted %v", found.Signers, found.Unverified)
	}
}

// with returns a bundle of the resource and of another one, both signed with the old key.
func (r *rotated) with(other *v1.Task) *tektonbundle.Bundle {
	r.t.Helper()
	both := r.build(r.task, r.key)
	var manifest, more ocispec.Manifest
	r.check(json.Unmarshal(both.Manifest.Content, &manifest))
	r.check(json.Unmarshal(r.build(other, r.key).Manifest.Content, &more))
	manifest.Layers = append(manifest.Layers, more.Layers...)
	both.Manifest = registry.NewBlob(ocispec.MediaTypeImageManifest, must(json.Marshal(manifest)))
	return both
}

func (r *rotated) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// The active key vouches for nothing that it would not sign.
func TestSignEarlier_RefusesWhatTheKeyWouldNotSign(t *testing.T) {
	for name, prepare := range map[string]func(r *rotated) (earlier string, known *keys.Ring){
		"the old key is revoked": func(r *rotated) (string, *keys.Ring) { return r.newer.Displaced, r.newRing },
		"nobody signed the image": func(r *rotated) (string, *keys.Ring) {
			return r.addUnsigned(r.build(r.task, r.key), "unsigned"), r.both
		},
		"nobody known signed the resource": func(r *rotated) (string, *keys.Ring) {
			foreign, _ := newKey(r.t)
			reference := r.addUnsigned(r.build(r.task, foreign), "foreign")
			must(Sign(r.t.Context(), r.store.Registry, reference, r.key, r.store.SignOptions))
			return reference, r.both
		},
		"another state": func(r *rotated) (string, *keys.Ring) {
			return r.putBy(newTask("build", "evil"), r.key).Reference, r.both
		},
		"another resource": func(r *rotated) (string, *keys.Ring) {
			return r.putBy(newTask("other", "make"), r.key).Reference, r.both
		},
		"the resource and another one": func(r *rotated) (string, *keys.Ring) {
			reference := r.addUnsigned(r.with(newTask("other", "make")), "two")
			must(Sign(r.t.Context(), r.store.Registry, reference, r.key, r.store.SignOptions))
			return reference, r.both
		},
		"nothing": func(r *rotated) (string, *keys.Ring) {
			return "sha256:" + strings.Repeat("0", 64), r.both
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rotate(newFixture(t), newTask("build", "make"))
			earlier, known := prepare(r)
			earlier = earlier[strings.Index(earlier, "@")+1:]
			if signed, err := r.signEarlier(earlier, known); signed || !errors.Is(err, ErrNotTrusted) {
				t.Errorf("signed: %t, got %v, want %v", signed, err, ErrNotTrusted)
			}
			if r.signed(r.store.Prefix+"/prod@"+earlier, r.newRing) {
				t.Error("cosign verifies the bundle with the next key")
			}
		})
	}
}

// An error of the registry says nothing about a bundle.
func TestSignEarlier_RetriesAfterFaults(t *testing.T) {
	for registryKind, start := range registryKinds() {
		for faultName, fault := range requestFaults {
			for n := 1; ; n++ {
				r, failed := rotate(start(t), newTask("build", "make")), new(atomic.Bool)
				r.server.Set(registrytest.From(n, func(w http.ResponseWriter, request *http.Request, next http.Handler) {
					failed.Store(true)
					fault(w, request, next)
				}))
				_, err := r.signEarlier(r.newer.Displaced, r.both)
				r.server.Set(nil)
				if !failed.Load() {
					break
				}
				if err == nil || errors.Is(err, ErrNotTrusted) {
					t.Errorf("%s, %s, request %d: got %v, want an error that is not %v", registryKind, faultName, n, err, ErrNotTrusted)
				}
				if _, err := r.signEarlier(r.newer.Displaced, r.both); err != nil || !r.signed(r.old.Reference, r.newRing) {
					t.Errorf("%s, %s, request %d: after a retry: %v", registryKind, faultName, n, err)
				}
			}
		}
	}
}

func TestEarlier_ReturnsTheBundlesOfOneState(t *testing.T) {
	r := rotate(newFixture(t), newTask("build", "make"))
	other := newTask("build", "other")
	if tags := must(r.store.Earlier(t.Context(), IDOf(other), r.checksum(other))); len(tags) != 0 {
		t.Errorf("a state that is not stored has the earlier bundles %q", tags)
	}
	r.putBy(other, r.key)
	third, _ := newKey(t)
	r.putBy(other, r.next)
	r.putBy(r.task, third)
	tags := r.tags()
	for _, earlier := range r.earlier() {
		if !strings.HasPrefix(earlier, StateTag(r.checksum(r.task))+"-") || tags[earlier] == "" {
			t.Errorf("%s is not an earlier bundle of the state: %v", earlier, tags)
		}
	}
	if got := len(r.earlier()); got != 2 {
		t.Errorf("%d earlier bundles, want 2", got)
	}
}

func TestNewest_TellsWhoseSignatureTheNewestBundleHas(t *testing.T) {
	f := newFixture(t)
	task := newTask("build", "make")
	if newest, err := f.store.Newest(t.Context(), IDOf(task)); newest != nil || err != nil {
		t.Errorf("got %+v and %v, want nothing before the first Put", newest, err)
	}
	r := rotate(f, task)
	var newest *Newest
	f.wantRequests(1, "Newest", func() (err error) { newest, err = r.store.Newest(t.Context(), IDOf(task)); return err })
	if !r.next.Verify(newest.Signature, newest.Checksum) || r.key.Verify(newest.Signature, newest.Checksum) {
		t.Errorf("%+v is not signed with the next key", newest)
	}
	f.writeTag("task.build", must(registry.NewManifest("", registry.NewBlob("text/plain", []byte("foreign")), nil, nil)))
	if newest, err := f.store.Newest(t.Context(), IDOf(task)); !errors.Is(err, tektonbundle.ErrMalformed) {
		t.Errorf("got %+v and %v, want an error about the foreign image", newest, err)
	}
}
