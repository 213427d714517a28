// SPDX-License-Identifier: Apache-2.0

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
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

func TestFind_MissingStateIsNotFound(t *testing.T) {
	f := newFixture(t)
	task := newTask("build", "make")
	missing := func(name string, id ID, checksum []byte) {
		t.Helper()
		if found, err := f.store.Find(t.Context(), id, checksum, f.ring); !errors.Is(err, ErrNotFound) || errors.Is(err, ErrNotTrusted) || found != nil {
			t.Errorf("%s: got %+v and %v", name, found, err)
		}
	}
	missing("repository does not exist", IDOf(task), f.checksum(task))
	f.put(task)
	missing("another state", IDOf(task), f.checksum(newTask("build", "other")))
	missing("another name", IDOf(newTask("other", "make")), nil)
	missing("another kind", IDOf(newPipeline()), nil)
	missing("another namespace", ID{resource.Task, "dev", "build"}, f.checksum(task))
	if got, err := f.store.Signature(t.Context(), IDOf(task), f.checksum(newTask("build", "other"))); !errors.Is(err, ErrNotFound) || got != nil {
		t.Errorf("Signature returned %x and %v", got, err)
	}
	if found, err := Inspect(t.Context(), f.store.Registry, f.store.Prefix+"/prod:missing", f.ring); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %+v and %v", found, err)
	}
	for _, checksum := range [][]byte{{}, bytes.Repeat([]byte{1}, 100)} {
		if found, err := f.store.Find(t.Context(), IDOf(task), checksum, f.ring); err == nil {
			t.Errorf("%d bytes: got %+v", len(checksum), found)
		}
	}
}

// In each case, the tag of the requested state refers to a bundle that is not
// fully signed, or that holds another resource.
func TestFind_RejectsUntrustedBundles(t *testing.T) {
	task, other := newTask("build", "make"), newTask("build", "evil")
	for name, put := range map[string]func(f *fixture){
		"image not signed":                           func(f *fixture) { f.addUnsigned(f.build(task, f.key), StateTag(f.checksum(task))) },
		"image and resource signed with another key": func(f *fixture) { key, _ := newKey(t); f.putBy(task, key) },
		"resource signed with another key": func(f *fixture) {
			key, _ := newKey(t)
			if _, err := f.store.Put(t.Context(), task, must(key.Sign(t.Context(), f.checksum(task))), f.key, tekton.Newest); err != nil {
				t.Fatal(err)
			}
		},
		"image signed with another key": func(f *fixture) {
			key, _ := newKey(t)
			if _, err := f.store.Put(t.Context(), task, must(f.key.Sign(t.Context(), f.checksum(task))), key, tekton.Newest); err != nil {
				t.Fatal(err)
			}
		},
		"resource not signed": func(f *fixture) {
			if _, err := f.store.Put(t.Context(), task, []byte{}, f.key, tekton.Newest); err != nil {
				t.Fatal(err)
			}
		},
		"resource has signature of another state": func(f *fixture) {
			if _, err := f.store.Put(t.Context(), task, must(f.key.Sign(t.Context(), f.checksum(other))), f.key, tekton.Newest); err != nil {
				t.Fatal(err)
			}
		},
		"tag refers to another state": func(f *fixture) {
			f.put(other)
			f.writeTag(StateTag(f.checksum(task)), must(f.manifest(StateTag(f.checksum(other)))))
		},
		"tag refers to another resource": func(f *fixture) {
			f.put(newPipeline())
			f.writeTag(StateTag(f.checksum(task)), must(f.manifest("pipeline.build")))
		},
		"image has signature of another image": func(f *fixture) {
			f.put(other)
			reference := f.addUnsigned(f.build(task, f.key), StateTag(f.checksum(task)))
			f.attachSigstoreBundle(reference, must(imagesignature.Sign(t.Context(), must(f.manifest(StateTag(f.checksum(other)))).Descriptor.Digest, f.key, imagesignature.Options{})))
		},
		"image has malformed signature": func(f *fixture) {
			f.attachSigstoreBundle(f.addUnsigned(f.build(task, f.key), StateTag(f.checksum(task))), []byte("{}"))
		},
	} {
		f := newFixture(t)
		put(f)
		found, err := f.store.Find(t.Context(), IDOf(task), f.checksum(task), f.ring)
		if !errors.Is(err, ErrNotTrusted) || errors.Is(err, ErrNotFound) || found != nil {
			t.Errorf("%s: got %+v and %v", name, found, err)
		}
		if found, err := f.store.Find(t.Context(), IDOf(task), f.checksum(task), trusting(t)); err == nil {
			t.Errorf("%s, no trusted key: got %+v", name, found)
		}
	}
}

// manifest reads a manifest by tag or digest, past the server's rule.
func (f *fixture) manifest(reference string) (registry.Blob, error) {
	got := f.server.Direct(http.MethodGet, "/v2/tekton/prod/manifests/"+reference, nil, nil)
	if got.Code != http.StatusOK {
		return registry.Blob{}, fmt.Errorf("%s: status %d", reference, got.Code)
	}
	return registry.NewBlob(got.Header().Get("Content-Type"), got.Body.Bytes()), nil
}

// attachSigstoreBundle attaches content with the media type of a Sigstore bundle
// to an image.
func (f *fixture) attachSigstoreBundle(reference string, content []byte) {
	f.t.Helper()
	_, version, _ := strings.Cut(reference, "@")
	subject := must(f.manifest(version)).Descriptor
	f.attachReferrer(registry.NewBlob(imagesignature.MediaType, content), imagesignature.MediaType, &subject)
}

// attachReferrer writes a referrer with one layer.
func (f *fixture) attachReferrer(layer registry.Blob, artifactType string, subject *ocispec.Descriptor) {
	f.t.Helper()
	manifest := must(registry.NewManifest(artifactType, layer, subject, map[string]string{"n": string(layer.Descriptor.Digest)}))
	f.writeTag(manifest.Descriptor.Digest.String(), manifest)
}

func TestFind_RejectsNewestTagOfOtherResource(t *testing.T) {
	f := newFixture(t)
	f.put(newTask("build", "make"))
	f.put(newTask("other", "make"))
	f.writeTag("task.build", must(f.manifest("task.other")))
	if found, err := f.store.Find(t.Context(), IDOf(newTask("build", "")), nil, f.ring); !errors.Is(err, ErrNotTrusted) {
		t.Errorf("got %+v and %v", found, err)
	}
	// Put writes the right bundle again.
	if result := f.put(newTask("build", "make")); !result.Uploaded {
		t.Errorf("got %+v", result)
	}
	if _, err := f.store.Find(t.Context(), IDOf(newTask("build", "")), nil, f.ring); err != nil {
		t.Error(err)
	}
}

// Another writer may overwrite the tags of the store.
func TestPut_ReplacesForeignManifestUnderItsTags(t *testing.T) {
	index := registry.NewBlob(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
	plain := registry.NewBlob(ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"layers":[]}`))
	artifact := must(registry.NewManifest("application/x", registry.NewBlob("text/plain", []byte("x")), nil, nil))
	for name, manifest := range map[string]registry.Blob{"image index": index, "image": plain, "artifact": artifact} {
		f := newFixture(t)
		task := newTask("build", "make")
		f.put(task)
		for _, tag := range []string{"task.build", StateTag(f.checksum(task))} {
			f.writeTag(tag, manifest)
			f.writeTag("task.build", manifest)
			if found, err := f.store.Find(t.Context(), IDOf(task), nil, f.ring); !errors.Is(err, tektonbundle.ErrMalformed) {
				t.Errorf("%s: got %+v and %v", name, found, err)
			}
			if result := f.put(task); !result.Uploaded {
				t.Errorf("%s: got %+v", name, result)
			}
			f.find(task)
		}
	}
}

// Registries differ in the fields of their lists of referrers.
func TestFind_FindsSignatureInListsOfAllRegistries(t *testing.T) {
	config := registry.EmptyConfig.Descriptor.MediaType
	for name, change := range map[string]func(*ocispec.Descriptor){
		"media type of empty configuration": func(d *ocispec.Descriptor) { d.ArtifactType = config },
		"media type of image configuration": func(d *ocispec.Descriptor) { d.ArtifactType = ocispec.MediaTypeImageConfig },
		"no artifact type":                  func(d *ocispec.Descriptor) { d.ArtifactType = "" },
		"artifact type of the manifest":     func(d *ocispec.Descriptor) { d.ArtifactType = imagesignature.MediaType },
		"additional annotations":            func(d *ocispec.Descriptor) { d.Annotations = map[string]string{"a": "b"} },
		"no size, no media type":            func(d *ocispec.Descriptor) { d.MediaType, d.Size = "", 0 },
	} {
		f := newFixture(t)
		task := newTask("build", "make")
		f.server.Set(changeReferrers(change))
		result := f.put(task)
		_, version, _ := strings.Cut(result.Reference, "@")
		subject := must(f.manifest(version)).Descriptor
		f.attachReferrer(registry.NewBlob("application/spdx+json", []byte("sbom")), "application/spdx+json", &subject)
		f.attachReferrer(registry.NewBlob("application/vnd.in-toto+json", []byte("{}")), "", &subject)
		found, err := f.store.Find(t.Context(), IDOf(task), f.checksum(task), f.ring)
		if err != nil || !slices.Equal(found.Signers, []string{f.key.ID}) || len(found.Unverified) != 0 {
			t.Errorf("%s: got %+v and %v", name, found, err)
		}
	}
}

// changeReferrers changes each descriptor in lists of referrers.
func changeReferrers(change func(*ocispec.Descriptor)) registrytest.Rule {
	return registrytest.When(registrytest.Request(http.MethodGet, "/referrers/"), registrytest.Tamper(func(_ http.Header, body []byte) []byte {
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

// Anybody who may push may attach referrers. Invalid ones neither count nor hide
// the valid signature.
func TestFind_IgnoresInvalidSignatures(t *testing.T) {
	f := newFixture(t)
	task := newTask("build", "make")
	result := f.put(task)
	_, version, _ := strings.Cut(result.Reference, "@")
	subject := must(f.manifest(version)).Descriptor
	stranger, _ := newKey(t)
	f.attachSigstoreBundle(result.Reference, must(imagesignature.Sign(t.Context(), subject.Digest, stranger, imagesignature.Options{})))
	f.attachSigstoreBundle(result.Reference, []byte("garbage"))
	tooLong := registry.NewBlob(imagesignature.MediaType, bytes.Repeat([]byte(" "), imagesignature.MaxBundle+1))
	f.attachReferrer(tooLong, imagesignature.MediaType, &subject)
	invalidDigest := registry.NewBlob(imagesignature.MediaType, []byte("x"))
	invalidDigest.Descriptor.Digest = digest.Digest("../manifests/task.build")
	invalidDigest.Content = bytes.Repeat([]byte("x"), 40<<10)
	f.attachReferrer(invalidDigest, imagesignature.MediaType, &subject)
	f.writeTag("sha256:"+digest.FromString("x").Encoded(), registry.NewBlob(ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"subject":{"digest":%q},"layers":3}`, subject.Digest)))
	found, err := f.store.Find(t.Context(), IDOf(task), f.checksum(task), f.ring)
	if err != nil || !slices.Equal(found.Signers, []string{f.key.ID}) || len(found.Unverified) < 4 {
		t.Errorf("got %+v and %v", found, err)
	}
	requests := f.server.RequestsDuring(func() { _, _ = f.store.Find(t.Context(), IDOf(task), f.checksum(task), f.ring) })
	if slices.ContainsFunc(requests, func(r string) bool { return strings.Contains(r, "/blobs/") }) {
		t.Errorf("read a blob that is too long or has an invalid digest: %q", requests)
	}
}

// A registry may list a referrer under the wrong subject.
func TestFind_RejectsReferrerOfAnotherImage(t *testing.T) {
	f := newFixture(t)
	task, other := newTask("build", "make"), newTask("build", "other")
	f.put(other)
	otherImage := must(f.manifest(StateTag(f.checksum(other)))).Descriptor
	reference := f.addUnsigned(f.build(task, f.key), StateTag(f.checksum(task)))
	_, version, _ := strings.Cut(reference, "@")
	// A valid signature of this image, in a referrer whose subject is the other image.
	f.attachReferrer(registry.NewBlob(imagesignature.MediaType, must(imagesignature.Sign(t.Context(), digest.Digest(version), f.key, imagesignature.Options{}))), imagesignature.MediaType, &otherImage)
	otherReferrers := f.server.Direct(http.MethodGet, "/v2/tekton/prod/referrers/"+otherImage.Digest.String(), nil, nil).Body.Bytes()
	f.server.Set(registrytest.When(registrytest.Request(http.MethodGet, "/referrers/"), registrytest.Tamper(func(http.Header, []byte) []byte { return otherReferrers })))
	if found, err := f.store.Find(t.Context(), IDOf(task), f.checksum(task), f.ring); !errors.Is(err, ErrNotTrusted) || !strings.Contains(err.Error(), "another image") {
		t.Errorf("got %+v and %v", found, err)
	}
}

func TestInspect_ReadsBoundedNumberOfSignatures(t *testing.T) {
	f := newFixture(t)
	task := newTask("build", "make")
	result := f.put(task)
	for i := range maxSignatures + 5 {
		f.attachSigstoreBundle(result.Reference, fmt.Appendf(nil, "%d", i))
	}
	requests := f.server.RequestsDuring(func() {
		found, err := Inspect(t.Context(), f.store.Registry, result.Reference, f.ring)
		if err != nil || len(found.Unverified) < maxSignatures-1 || !strings.Contains(fmt.Sprint(found.Unverified), "56 signatures, of which 50") {
			t.Errorf("got %+v and %v", found, err)
		}
	})
	if len(requests) != maxSignatures+2 {
		t.Errorf("took %d requests", len(requests))
	}
}

// A fault must not look like a missing bundle or a missing signature.
func TestFind_ReturnsUnavailableForFaults(t *testing.T) {
	task := newTask("build", "make")
	f := newFixture(t)
	f.put(task)
	for name, fault := range map[string]registrytest.Fault{
		"status 403":              registrytest.Answer(403, "DENIED"),
		"status 500":              registrytest.Answer(500, "UNKNOWN"),
		"status 429, Retry-After": registrytest.Answer(429, "TOOMANYREQUESTS", "Retry-After", "1"),
		"no response":             registrytest.Drop,
		"response truncated":      registrytest.TruncateResponse,
	} {
		for n := range 3 {
			f.restart()
			if _, err := f.store.Registry.Repository(t.Context(), f.store.Prefix+"/prod"); err != nil {
				t.Fatal(err)
			}
			f.server.Set(registrytest.From(n+1, fault))
			found, err := f.store.Find(t.Context(), IDOf(task), f.checksum(task), f.ring)
			if err == nil || errors.Is(err, ErrNotTrusted) || errors.Is(err, ErrNotFound) || !registry.Unavailable(err) {
				t.Errorf("%s, request %d: got %+v and %v", name, n+1, found, err)
			}
			f.server.Set(nil)
		}
	}
}

func TestFind_RejectsChangedContent(t *testing.T) {
	for name, tc := range map[string]struct {
		task resource.Object
		path string
	}{
		"manifest": {newTask("build", "make"), "/manifests/"},
		"layer":    {newLongTask("build"), "/blobs/"},
	} {
		f := newFixture(t)
		f.put(tc.task)
		for change, fault := range map[string]registrytest.Fault{
			"one byte changed": registrytest.Tamper(func(_ http.Header, body []byte) []byte { return bytes.Replace(body, []byte("a"), []byte("b"), 1) }),
			"empty response":   registrytest.Tamper(func(http.Header, []byte) []byte { return nil }),
			"endless response": registrytest.Endless,
		} {
			f.server.Set(registrytest.When(registrytest.Request(http.MethodGet, tc.path), fault))
			if found, err := f.store.Find(t.Context(), IDOf(tc.task), f.checksum(tc.task), f.ring); err == nil {
				t.Errorf("%s, %s: got %+v", name, change, found)
			}
		}
	}
}

func TestInspectAndSign_RejectInvalidReferences(t *testing.T) {
	f := newFixture(t)
	for _, reference := range []string{"", "x", "x:y", f.store.Prefix + "/prod", f.store.Prefix + "/../x:y", f.store.Prefix + "/prod@sha256:x", f.store.Prefix + "/a//b:y"} {
		if found, err := Inspect(t.Context(), f.store.Registry, reference, f.ring); err == nil {
			t.Errorf("%q: got %+v", reference, found)
		}
		if signed, err := Sign(t.Context(), f.store.Registry, reference, f.key, imagesignature.Options{}); err == nil {
			t.Errorf("%q: signed %s", reference, signed)
		}
	}
}
