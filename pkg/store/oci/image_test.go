// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	tekton "github.com/tektoncd/pipeline/pkg/remote/oci"

	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
)

// tknBundle returns a bundle of n Tasks as tkn bundle push builds it
// (pkg/bundle/builder.go in tektoncd/cli).
func tknBundle(n int, kind string) ggcr.Image {
	img := empty.Image
	for i := range n {
		task := fmt.Sprintf("apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {name: build-%d}\nspec: {steps: [{name: a, image: busybox}]}\n", i)
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		header := &tar.Header{Name: fmt.Sprint("build-", i), Mode: 0o600, Size: int64(len(task)), Typeflag: tar.TypeReg}
		if err := errors.Join(w.WriteHeader(header), func() error { _, err := w.Write([]byte(task)); return err }(), w.Close()); err != nil {
			panic(err)
		}
		layer := must(tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }))
		img = must(mutate.Append(img, mutate.Addendum{Layer: layer, Annotations: map[string]string{
			tekton.KindAnnotation: kind, tekton.TitleAnnotation: fmt.Sprint("build-", i), tekton.APIVersionAnnotation: "v1",
		}}))
	}
	return img
}

// pushImage writes an image to a repository outside the store.
func (f *fixture) pushImage(img ggcr.Image, tag string) string {
	f.t.Helper()
	reference := f.server.Host + "/upstream/catalog:" + tag
	if err := remote.Write(must(name.ParseReference(reference)), img); err != nil {
		f.t.Fatal(err)
	}
	return reference
}

func TestSign_SignsBundlesOfOtherTools(t *testing.T) {
	docker := tknBundle(20, "task")
	for name, img := range map[string]ggcr.Image{
		"Docker media types": docker,
		"OCI media types":    mutate.ConfigMediaType(mutate.MediaType(docker, types.OCIManifestSchema1), types.OCIConfigJSON),
		"one resource":       tknBundle(1, "task"),
	} {
		for registryKind, start := range registryKinds() {
			t.Run(name+", "+registryKind, func(t *testing.T) { start(t).checkSigningImage(img) })
		}
	}
}

// checkSigningImage signs an image that another tool has pushed, and checks the
// result with Inspect and with cosign.
func (f *fixture) checkSigningImage(img ggcr.Image) {
	f.t.Helper()
	reference := f.pushImage(img, "v1")
	unsigned, err := Inspect(f.t.Context(), f.store.Registry, reference, f.ring)
	if err != nil || len(unsigned.Signers) != 0 || unsigned.CheckTrust() == nil || f.signed(reference, f.ring) {
		f.t.Errorf("before Sign: got %+v and %v", unsigned, err)
	}
	signed, err := Sign(f.t.Context(), f.store.Registry, reference, f.key, imagesignature.Options{})
	if want := f.server.Host + "/upstream/catalog@" + must(img.Digest()).String(); err != nil || signed != want {
		f.t.Fatalf("signed %s, want %s (%v)", signed, want, err)
	}
	for _, version := range []string{reference, signed} {
		found, err := Inspect(f.t.Context(), f.store.Registry, version, f.ring)
		if err != nil || !slices.Equal(found.Signers, []string{f.key.ID}) || found.Reference != signed || len(found.Resources) != len(must(img.Layers())) {
			f.t.Fatalf("got %+v and %v", found, err)
		}
		if found.CheckTrust() == nil {
			f.t.Error("a bundle with unsigned resources is trusted")
		}
		for i, r := range found.Resources {
			if r.Signer != "" || r.Object.GetName() != fmt.Sprint("build-", i) || !bytes.Equal(r.Checksum(), f.checksum(r.Object)) {
				f.t.Errorf("got %+v", r)
			}
		}
	}
	f.checkUpstream(signed, must(Inspect(f.t.Context(), f.store.Registry, signed, f.ring)).Resources[0].Object)
	key, public := newKey(f.t)
	if _, err := Sign(f.t.Context(), f.store.Registry, reference, key, imagesignature.Options{}); err != nil {
		f.t.Error(err)
	}
	if both := must(Inspect(f.t.Context(), f.store.Registry, reference, trusting(f.t, public, f.key.PublicKey()))); len(both.Signers) != 2 {
		f.t.Errorf("got %+v", both)
	}
}

func TestSign_RejectsMalformedBundles(t *testing.T) {
	for name, img := range map[string]ggcr.Image{
		"21 resources":           tknBundle(21, "task"),
		"no resource":            empty.Image,
		"kind does not match":    tknBundle(1, "pipeline"),
		"kind in the plural":     tknBundle(1, "tasks"),
		"layer without metadata": must(mutate.AppendLayers(empty.Image, must(tknBundle(1, "task").Layers())...)),
	} {
		f := newFixture(t)
		reference := f.pushImage(img, "v1")
		if signed, err := Sign(t.Context(), f.store.Registry, reference, f.key, imagesignature.Options{}); !errors.Is(err, tektonbundle.ErrMalformed) || signed != "" {
			t.Errorf("%s: signed %s (%v)", name, signed, err)
		}
		if found, err := Inspect(t.Context(), f.store.Registry, reference, f.ring); !errors.Is(err, tektonbundle.ErrMalformed) {
			t.Errorf("%s: got %+v and %v", name, found, err)
		}
		if f.signed(f.server.Host+"/upstream/catalog@"+must(img.Digest()).String(), f.ring) {
			t.Errorf("%s: cosign verifies a signature", name)
		}
	}
	f := newFixture(t)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: tknBundle(1, "task")})
	reference := f.server.Host + "/upstream/catalog:v1"
	if err := remote.WriteIndex(must(name.ParseReference(reference)), index); err != nil {
		t.Fatal(err)
	}
	if signed, err := Sign(t.Context(), f.store.Registry, reference, f.key, imagesignature.Options{}); !errors.Is(err, tektonbundle.ErrMalformed) {
		t.Errorf("image index: signed %s (%v)", signed, err)
	}
	if signed, err := Sign(t.Context(), f.store.Registry, f.server.Host+"/upstream/catalog:v2", f.key, imagesignature.Options{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing tag: signed %s (%v)", signed, err)
	}
}

// Sign reads and verifies every layer before it signs the image.
func TestSign_RejectsImageWithUnreadableLayer(t *testing.T) {
	f := newFixture(t)
	reference := f.pushImage(tknBundle(2, "task"), "v1")
	for name, fault := range map[string]registrytest.Fault{
		"one byte changed":   registrytest.Tamper(func(_ http.Header, body []byte) []byte { body[len(body)-1] ^= 1; return body }),
		"layer missing":      registrytest.Answer(404, "BLOB_UNKNOWN"),
		"endless response":   registrytest.Endless,
		"response truncated": registrytest.TruncateResponse,
	} {
		f.server.Set(registrytest.When(registrytest.Request(http.MethodGet, "/blobs/"), fault))
		if signed, err := Sign(t.Context(), f.store.Registry, reference, f.key, imagesignature.Options{}); err == nil {
			t.Errorf("%s: signed %s", name, signed)
		}
		if name == "response truncated" {
			if _, err := Inspect(t.Context(), f.store.Registry, reference, f.ring); !registry.Unavailable(err) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
	f.server.Set(nil)
	if f.signed(strings.Replace(reference, ":v1", "@"+must(tknBundle(2, "task").Digest()).String(), 1), f.ring) {
		t.Error("cosign verifies a signature")
	}
}
