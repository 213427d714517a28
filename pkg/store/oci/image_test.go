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

// tknBundle is what tkn bundle push makes (pkg/bundle/builder.go in
// tektoncd/cli), of n Tasks.
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

func (w *world) pushed(img ggcr.Image, tag string) string {
	w.Helper()
	reference := w.Host + "/others/catalog:" + tag
	if err := remote.Write(must(name.ParseReference(reference)), img); err != nil {
		w.Fatal(err)
	}
	return reference
}

func TestBundlesThatOthersPushedAreSigned(t *testing.T) {
	docker := tknBundle(20, "task")
	for name, img := range map[string]ggcr.Image{
		"Docker's media types": docker,
		"OCI's":                mutate.ConfigMediaType(mutate.MediaType(docker, types.OCIManifestSchema1), types.OCIConfigJSON),
		"one resource":         tknBundle(1, "task"),
	} {
		for registryName, start := range starts() {
			t.Run(name+", "+registryName, func(t *testing.T) { start(t).signsOthers(img) })
		}
	}
}

func (w *world) signsOthers(img ggcr.Image) {
	w.Helper()
	reference := w.pushed(img, "v1")
	unsigned, err := Inspect(w.Context(), w.Registry, reference, w.ring)
	if err != nil || len(unsigned.Signers) != 0 || unsigned.CheckTrust() == nil || w.signed(reference, w.ring) {
		w.Errorf("before, got %+v and %v", unsigned, err)
	}
	signed, err := Sign(w.Context(), w.Registry, reference, w.key, imagesignature.Options{})
	if want := w.Host + "/others/catalog@" + must(img.Digest()).String(); err != nil || signed != want {
		w.Fatalf("signed %s, want %s (%v)", signed, want, err)
	}
	for _, one := range []string{reference, signed} {
		found, err := Inspect(w.Context(), w.Registry, one, w.ring)
		if err != nil || !slices.Equal(found.Signers, []string{w.key.ID}) || found.Reference != signed || len(found.Resources) != len(must(img.Layers())) {
			w.Fatalf("got %+v and %v", found, err)
		}
		if found.CheckTrust() == nil {
			w.Error("resources that nobody signed are trusted")
		}
		for i, r := range found.Resources {
			if r.Signer != "" || r.Object.GetName() != fmt.Sprint("build-", i) || !bytes.Equal(r.Checksum, w.sum(r.Object)) {
				w.Errorf("got %+v", r)
			}
		}
	}
	w.judge(signed, must(Inspect(w.Context(), w.Registry, signed, w.ring)).Resources[0].Object)
	key, public := newKey(w.T)
	if _, err := Sign(w.Context(), w.Registry, reference, key, imagesignature.Options{}); err != nil {
		w.Error(err)
	}
	if both := must(Inspect(w.Context(), w.Registry, reference, trusting(w.T, public, w.key.PublicKey()))); len(both.Signers) != 2 {
		w.Errorf("got %+v", both)
	}
}

func TestWhatIsNotUnderstoodIsNotSigned(t *testing.T) {
	wrong := tknBundle(1, "pipeline")
	for name, img := range map[string]ggcr.Image{
		"21 resources":   tknBundle(21, "task"),
		"no resource":    empty.Image,
		"another kind":   wrong,
		"a kind of many": tknBundle(1, "tasks"),
		"no bundle":      must(mutate.AppendLayers(empty.Image, must(tknBundle(1, "task").Layers())...)),
	} {
		w := newWorld(t)
		reference := w.pushed(img, "v1")
		if signed, err := Sign(t.Context(), w.Registry, reference, w.key, imagesignature.Options{}); !errors.Is(err, tektonbundle.ErrMalformed) || signed != "" {
			t.Errorf("%s: signed %s (%v)", name, signed, err)
		}
		if found, err := Inspect(t.Context(), w.Registry, reference, w.ring); !errors.Is(err, tektonbundle.ErrMalformed) {
			t.Errorf("%s: got %+v and %v", name, found, err)
		}
		if w.signed(w.Host+"/others/catalog@"+must(img.Digest()).String(), w.ring) {
			t.Errorf("%s: it is signed", name)
		}
	}
	w := newWorld(t)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: tknBundle(1, "task")})
	reference := w.Host + "/others/catalog:v1"
	if err := remote.WriteIndex(must(name.ParseReference(reference)), index); err != nil {
		t.Fatal(err)
	}
	if signed, err := Sign(t.Context(), w.Registry, reference, w.key, imagesignature.Options{}); !errors.Is(err, tektonbundle.ErrMalformed) {
		t.Errorf("an index: signed %s (%v)", signed, err)
	}
	if signed, err := Sign(t.Context(), w.Registry, w.Host+"/others/catalog:v2", w.key, imagesignature.Options{}); !errors.Is(err, ErrNotStored) {
		t.Errorf("nothing: signed %s (%v)", signed, err)
	}
}

// A layer is read before it is signed, and what is read is what the digest says.
func TestALayerThatWasChangedIsNotSigned(t *testing.T) {
	w := newWorld(t)
	reference := w.pushed(tknBundle(2, "task"), "v1")
	for name, fault := range map[string]registrytest.Fault{
		"a byte":  registrytest.Changed(func(_ http.Header, body []byte) []byte { body[len(body)-1] ^= 1; return body }),
		"gone":    registrytest.Status(404, "BLOB_UNKNOWN"),
		"no end":  registrytest.Endless,
		"cut off": registrytest.Half,
	} {
		w.Fail(registrytest.Where(registrytest.Asks(http.MethodGet, "/blobs/"), fault))
		if signed, err := Sign(t.Context(), w.Registry, reference, w.key, imagesignature.Options{}); err == nil {
			t.Errorf("%s: signed %s", name, signed)
		}
		if name == "cut off" {
			if _, err := Inspect(t.Context(), w.Registry, reference, w.ring); !registry.Unavailable(err) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
	w.Fail(nil)
	if w.signed(strings.Replace(reference, ":v1", "@"+must(tknBundle(2, "task").Digest()).String(), 1), w.ring) {
		t.Error("it is signed")
	}
}
