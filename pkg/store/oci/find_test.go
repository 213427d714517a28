package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func TestWhatIsNotInTheRegistry(t *testing.T) {
	w := newWorld(t)
	task := newTask("build", "make")
	missing := func(name string, id ID, checksum []byte) {
		t.Helper()
		if found, err := w.Find(t.Context(), id, checksum, w.ring); !errors.Is(err, ErrNotStored) || errors.Is(err, ErrNotTrusted) || found != nil {
			t.Errorf("%s: got %+v and %v", name, found, err)
		}
	}
	missing("no repository", IDOf(task), w.sum(task))
	w.put(task)
	missing("another state", IDOf(task), w.sum(newTask("build", "other")))
	missing("another name", IDOf(newTask("other", "make")), nil)
	missing("another kind", IDOf(newPipeline()), nil)
	missing("another namespace", ID{resource.Task, "dev", "build"}, w.sum(task))
	if got, err := w.Signature(t.Context(), IDOf(task), w.sum(newTask("build", "other"))); !errors.Is(err, ErrNotStored) || got != nil {
		t.Errorf("got the signature %x and %v", got, err)
	}
	if found, err := Inspect(t.Context(), w.Registry, w.Prefix+"/prod:missing", w.ring); !errors.Is(err, ErrNotStored) {
		t.Errorf("got %+v and %v", found, err)
	}
	for _, checksum := range [][]byte{{}, bytes.Repeat([]byte{1}, 100)} {
		if found, err := w.Find(t.Context(), IDOf(task), checksum, w.ring); err == nil {
			t.Errorf("%d bytes: got %+v", len(checksum), found)
		}
	}
}

// Each of these is in the place of what is asked for.
func TestWhatIsFoundIsTrustedOrRefused(t *testing.T) {
	task, other := newTask("build", "make"), newTask("build", "evil")
	for name, put := range map[string]func(w *world){
		"nobody signed the image": func(w *world) { w.uploaded(w.built(task, w.key), StateTag(w.sum(task))) },
		"another key signed all":  func(w *world) { key, _ := newKey(t); w.putBy(task, key) },
		"another key signed the resource": func(w *world) {
			key, _ := newKey(t)
			if _, err := w.Put(t.Context(), task, must(key.Sign(t.Context(), w.sum(task))), w.key); err != nil {
				t.Fatal(err)
			}
		},
		"another key signed the image": func(w *world) {
			key, _ := newKey(t)
			if _, err := w.Put(t.Context(), task, must(w.key.Sign(t.Context(), w.sum(task))), key); err != nil {
				t.Fatal(err)
			}
		},
		"nobody signed the resource": func(w *world) {
			if _, err := w.Put(t.Context(), task, []byte{}, w.key); err != nil {
				t.Fatal(err)
			}
		},
		"the signature is that of another state": func(w *world) {
			if _, err := w.Put(t.Context(), task, must(w.key.Sign(t.Context(), w.sum(other))), w.key); err != nil {
				t.Fatal(err)
			}
		},
		"the tag was moved to another state": func(w *world) {
			w.put(other)
			w.tag(StateTag(w.sum(task)), must(w.manifest(StateTag(w.sum(other)))))
		},
		"the tag was moved to another resource": func(w *world) {
			w.put(newPipeline())
			w.tag(StateTag(w.sum(task)), must(w.manifest("pipeline.build")))
		},
		"the signature of the image is that of another image": func(w *world) {
			w.put(other)
			reference := w.uploaded(w.built(task, w.key), StateTag(w.sum(task)))
			w.attached(reference, must(imagesignature.Sign(t.Context(), must(w.manifest(StateTag(w.sum(other)))).Descriptor.Digest, w.key, imagesignature.Options{})))
		},
		"the signature of the image is garbage": func(w *world) {
			w.attached(w.uploaded(w.built(task, w.key), StateTag(w.sum(task))), []byte("{}"))
		},
	} {
		w := newWorld(t)
		put(w)
		found, err := w.Find(t.Context(), IDOf(task), w.sum(task), w.ring)
		if !errors.Is(err, ErrNotTrusted) || errors.Is(err, ErrNotStored) || found != nil {
			t.Errorf("%s: got %+v and %v", name, found, err)
		}
		if found, err := w.Find(t.Context(), IDOf(task), w.sum(task), trusting(t)); err == nil {
			t.Errorf("%s, with no key: got %+v", name, found)
		}
	}
}

// manifest is what a tag or digest resolves to, whatever the fault.
func (w *world) manifest(reference string) (registry.Blob, error) {
	got := w.Do(http.MethodGet, "/v2/tekton/prod/manifests/"+reference, nil, nil)
	if got.Code != http.StatusOK {
		return registry.Blob{}, fmt.Errorf("%s: status %d", reference, got.Code)
	}
	return registry.NewBlob(got.Header().Get("Content-Type"), got.Body.Bytes()), nil
}

// attached has a Sigstore bundle, or what is called one, attached to an image.
func (w *world) attached(reference string, content []byte) {
	w.Helper()
	_, version, _ := strings.Cut(reference, "@")
	subject := must(w.manifest(version)).Descriptor
	w.referrer(registry.NewBlob(imagesignature.MediaType, content), imagesignature.MediaType, &subject)
}

func (w *world) referrer(layer registry.Blob, artifactType string, subject *ocispec.Descriptor) {
	w.Helper()
	manifest := must(registry.NewManifest(artifactType, layer, subject, map[string]string{"n": string(layer.Descriptor.Digest)}))
	w.tag(manifest.Descriptor.Digest.String(), manifest)
}

func TestTheNewestMayBeNoOtherResource(t *testing.T) {
	w := newWorld(t)
	w.put(newTask("build", "make"))
	w.put(newTask("other", "make"))
	w.tag("task.build", must(w.manifest("task.other")))
	if found, err := w.Find(t.Context(), IDOf(newTask("build", "")), nil, w.ring); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("got %+v and %v", found, err)
	}
	// It is put back.
	if stored := w.put(newTask("build", "make")); !stored.Uploaded {
		t.Errorf("got %+v", stored)
	}
	if _, err := w.Find(t.Context(), IDOf(newTask("build", "")), nil, w.ring); err != nil {
		t.Error(err)
	}
}

// Whatever somebody else put under our tags.
func TestTagsThatHoldSomethingElse(t *testing.T) {
	index := registry.NewBlob(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
	plain := registry.NewBlob(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"layers":[]}`))
	artifact := must(registry.NewManifest("application/x", registry.NewBlob("text/plain", []byte("x")), nil, nil))
	for name, manifest := range map[string]registry.Blob{"an index": index, "an image": plain, "an artifact": artifact} {
		w := newWorld(t)
		task := newTask("build", "make")
		w.put(task)
		for _, tag := range []string{"task.build", StateTag(w.sum(task))} {
			w.tag(tag, manifest)
			w.tag("task.build", manifest)
			if found, err := w.Find(t.Context(), IDOf(task), nil, w.ring); !errors.Is(err, tektonbundle.ErrMalformed) {
				t.Errorf("%s: got %+v and %v", name, found, err)
			}
			if stored := w.put(task); !stored.Uploaded {
				t.Errorf("%s: got %+v", name, stored)
			}
			w.find(task)
		}
	}
}

// Registries list referrers each in its way.
func TestReferrersAsRegistriesListThem(t *testing.T) {
	config := registry.Empty.Descriptor.MediaType
	for name, change := range map[string]func(*ocispec.Descriptor){
		"by the configuration":       func(d *ocispec.Descriptor) { d.ArtifactType = config },
		"by that of a container":     func(d *ocispec.Descriptor) { d.ArtifactType = ocispec.MediaTypeImageConfig },
		"without a type":             func(d *ocispec.Descriptor) { d.ArtifactType = "" },
		"as they are":                func(d *ocispec.Descriptor) { d.ArtifactType = imagesignature.MediaType },
		"with annotations of theirs": func(d *ocispec.Descriptor) { d.Annotations = map[string]string{"a": "b"} },
		"without size or media type": func(d *ocispec.Descriptor) { d.MediaType, d.Size = "", 0 },
	} {
		w := newWorld(t)
		task := newTask("build", "make")
		w.Fail(listing(change))
		stored := w.put(task)
		_, version, _ := strings.Cut(stored.Reference, "@")
		subject := must(w.manifest(version)).Descriptor
		w.referrer(registry.NewBlob("application/spdx+json", []byte("sbom")), "application/spdx+json", &subject)
		w.referrer(registry.NewBlob("application/vnd.in-toto+json", []byte("{}")), "", &subject)
		found, err := w.Find(t.Context(), IDOf(task), w.sum(task), w.ring)
		if err != nil || !slices.Equal(found.Signers, []string{w.key.ID}) || len(found.Unverified) != 0 {
			t.Errorf("%s: got %+v and %v", name, found, err)
		}
	}
}

// listing changes the list of referrers.
func listing(change func(*ocispec.Descriptor)) registrytest.Fault {
	return registrytest.Where(registrytest.Asks(http.MethodGet, "/referrers/"), registrytest.Changed(func(_ http.Header, body []byte) []byte {
		var index ocispec.Index
		if json.Unmarshal(body, &index) != nil || index.Manifests == nil {
			return body
		}
		for i := range index.Manifests {
			change(&index.Manifests[i])
		}
		return must(json.Marshal(index))
	}))
}

// Whoever may push may attach; what they attach neither counts nor hides what does.
func TestReferrersThatAreNoSignatures(t *testing.T) {
	w := newWorld(t)
	task := newTask("build", "make")
	stored := w.put(task)
	_, version, _ := strings.Cut(stored.Reference, "@")
	subject := must(w.manifest(version)).Descriptor
	stranger, _ := newKey(t)
	w.attached(stored.Reference, must(imagesignature.Sign(t.Context(), subject.Digest, stranger, imagesignature.Options{})))
	w.attached(stored.Reference, []byte("garbage"))
	big := registry.NewBlob(imagesignature.MediaType, bytes.Repeat([]byte(" "), imagesignature.MaxBundle+1))
	w.referrer(big, imagesignature.MediaType, &subject)
	bad := registry.NewBlob(imagesignature.MediaType, []byte("x"))
	bad.Descriptor.Digest = digest.Digest("../manifests/task.build")
	bad.Content = bytes.Repeat([]byte("x"), 40<<10)
	w.referrer(bad, imagesignature.MediaType, &subject)
	w.tag("sha256:"+digest.FromString("x").Encoded(), registry.NewBlob(ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"subject":{"digest":%q},"layers":3}`, subject.Digest)))
	found, err := w.Find(t.Context(), IDOf(task), w.sum(task), w.ring)
	if err != nil || !slices.Equal(found.Signers, []string{w.key.ID}) || len(found.Unverified) < 4 {
		t.Errorf("got %+v and %v", found, err)
	}
	requests := w.During(func() { _, _ = w.Find(t.Context(), IDOf(task), w.sum(task), w.ring) })
	if slices.ContainsFunc(requests, func(r string) bool { return strings.Contains(r, "/blobs/") }) {
		t.Errorf("read what is too long, or is none: %q", requests)
	}
}

// A list may name what refers to something else.
func TestAReferrerOfAnotherImageIsNone(t *testing.T) {
	w := newWorld(t)
	task, other := newTask("build", "make"), newTask("build", "other")
	w.put(other)
	elsewhere := must(w.manifest(StateTag(w.sum(other)))).Descriptor
	reference := w.uploaded(w.built(task, w.key), StateTag(w.sum(task)))
	_, version, _ := strings.Cut(reference, "@")
	// A signature of this image, which says that it refers to the other one.
	w.referrer(registry.NewBlob(imagesignature.MediaType, must(imagesignature.Sign(t.Context(), digest.Digest(version), w.key, imagesignature.Options{}))), imagesignature.MediaType, &elsewhere)
	theirs := w.Do(http.MethodGet, "/v2/tekton/prod/referrers/"+elsewhere.Digest.String(), nil, nil).Body.Bytes()
	w.Fail(registrytest.Where(registrytest.Asks(http.MethodGet, "/referrers/"), registrytest.Changed(func(http.Header, []byte) []byte { return theirs })))
	if found, err := w.Find(t.Context(), IDOf(task), w.sum(task), w.ring); !errors.Is(err, ErrNotTrusted) || !strings.Contains(err.Error(), "another image") {
		t.Errorf("got %+v and %v", found, err)
	}
}

func TestMoreSignaturesThanAreRead(t *testing.T) {
	w := newWorld(t)
	task := newTask("build", "make")
	stored := w.put(task)
	for i := range maxSignatures + 5 {
		w.attached(stored.Reference, fmt.Appendf(nil, "%d", i))
	}
	requests := w.During(func() {
		found, err := Inspect(t.Context(), w.Registry, stored.Reference, w.ring)
		if err != nil || len(found.Unverified) < maxSignatures-1 || !strings.Contains(fmt.Sprint(found.Unverified), "56 signatures, of which 50") {
			t.Errorf("got %+v and %v", found, err)
		}
	})
	if len(requests) != maxSignatures+2 {
		t.Errorf("took %d requests", len(requests))
	}
}

// A registry that does not answer has not said that nothing is signed.
func TestARegistryThatFailsIsNotOneThatHasNoSignature(t *testing.T) {
	task := newTask("build", "make")
	w := newWorld(t)
	w.put(task)
	for name, fault := range map[string]registrytest.Fault{
		"not allowed": registrytest.Status(403, "DENIED"),
		"broken":      registrytest.Status(500, "UNKNOWN"),
		"busy":        registrytest.Status(429, "TOOMANYREQUESTS", "Retry-After", "1"),
		"hung up":     registrytest.Hangup,
		"cut off":     registrytest.Half,
	} {
		for n := range 3 {
			w.restart()
			if _, err := w.Registry.Repository(t.Context(), w.Prefix+"/prod"); err != nil {
				t.Fatal(err)
			}
			w.Fail(registrytest.From(n+1, fault))
			found, err := w.Find(t.Context(), IDOf(task), w.sum(task), w.ring)
			if err == nil || errors.Is(err, ErrNotTrusted) || errors.Is(err, ErrNotStored) || !registry.Unavailable(err) {
				t.Errorf("%s, request %d: got %+v and %v", name, n+1, found, err)
			}
			w.Fail(nil)
		}
	}
}

// What the registry holds was changed.
func TestContentThatWasChangedIsNotRetrieved(t *testing.T) {
	for name, tc := range map[string]struct {
		task resource.Object
		path string
	}{
		"the manifest": {newTask("build", "make"), "/manifests/"},
		"the layer":    {newLongTask("build"), "/blobs/"},
	} {
		w := newWorld(t)
		w.put(tc.task)
		for change, fault := range map[string]registrytest.Fault{
			"a byte":  registrytest.Changed(func(_ http.Header, body []byte) []byte { return bytes.Replace(body, []byte("a"), []byte("b"), 1) }),
			"nothing": registrytest.Changed(func(http.Header, []byte) []byte { return nil }),
			"no end":  registrytest.Endless,
		} {
			w.Fail(registrytest.Where(registrytest.Asks(http.MethodGet, tc.path), fault))
			if found, err := w.Find(t.Context(), IDOf(tc.task), w.sum(tc.task), w.ring); err == nil {
				t.Errorf("%s, %s: got %+v", name, change, found)
			}
		}
	}
}

func TestOnlyReferencesAreInspected(t *testing.T) {
	w := newWorld(t)
	for _, reference := range []string{"", "x", "x:y", w.Prefix + "/prod", w.Prefix + "/../x:y", w.Prefix + "/prod@sha256:x", w.Prefix + "/a//b:y"} {
		if found, err := Inspect(t.Context(), w.Registry, reference, w.ring); err == nil {
			t.Errorf("%q: got %+v", reference, found)
		}
		if signed, err := Sign(t.Context(), w.Registry, reference, w.key, imagesignature.Options{}); err == nil {
			t.Errorf("%q: signed %s", reference, signed)
		}
	}
}
