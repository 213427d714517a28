// SPDX-License-Identifier: Apache-2.0

package tektonbundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tektoncd/pipeline/pkg/remote/oci"
	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// without returns a descriptor without one of its annotations.
func without(annotation string) ocispec.Descriptor {
	layer := layerOf("build")
	delete(layer.Annotations, annotation)
	return layer
}

// with returns a descriptor with one annotation set.
func with(annotation, value string) ocispec.Descriptor {
	layer := layerOf("build")
	layer.Annotations[annotation] = value
	return layer
}

func changed(change func(*ocispec.Descriptor)) ocispec.Descriptor {
	layer := layerOf("build")
	change(&layer)
	return layer
}

func layers(n int) []ocispec.Descriptor {
	all := make([]ocispec.Descriptor, 0, n)
	for i := range n {
		all = append(all, layerOf(fmt.Sprint("build-", i)))
	}
	return all
}

func TestEntries_AcceptsBundlesOfTkn(t *testing.T) {
	for _, n := range []int{1, oci.MaximumBundleObjects} {
		entries, err := Entries(manifestOf(layers(n)...))
		if err != nil || len(entries) != n {
			t.Fatalf("%d layers: got %d entries and %v", n, len(entries), err)
		}
		if last := entries[n-1]; last.Kind != "task" || last.Name != fmt.Sprint("build-", n-1) || len(last.Checksum)+len(last.Signature) != 0 {
			t.Errorf("got %+v", last)
		}
	}
	if entries, err := Entries(manifestOf(changed(func(d *ocispec.Descriptor) { d.Size = MaxLayer }))); err != nil {
		t.Errorf("a layer of the maximum size: got %+v and %v", entries, err)
	}
}

func TestEntries_RejectsMalformedManifests(t *testing.T) {
	for name, manifest := range map[string][]byte{
		"empty":                    nil,
		"truncated JSON":           []byte("{"),
		"array":                    []byte("[]"),
		"null":                     []byte("null"),
		"layers not a list":        []byte(`{"layers": {}}`),
		"image index":              []byte(`{"manifests": []}`),
		"no layers":                manifestOf(),
		"one layer too many":       manifestOf(layers(oci.MaximumBundleObjects + 1)...),
		"no kind":                  manifestOf(without(oci.KindAnnotation)),
		"no name":                  manifestOf(without(oci.TitleAnnotation)),
		"no version":               manifestOf(without(oci.APIVersionAnnotation)),
		"no name in the second":    manifestOf(layerOf("a"), without(oci.TitleAnnotation)),
		"empty kind":               manifestOf(with(oci.KindAnnotation, "")),
		"no digest":                manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "" })),
		"short digest":             manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "sha256:abc" })),
		"upper-case digest":        manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "sha256:" + "A" + d.Digest[8:] })),
		"digest is a path":         manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "../../manifests/latest" })),
		"SHA-512 digest":           []byte(strings.ReplaceAll(string(manifestOf(layerOf("build"))), "sha256:", "sha512:"+strings.Repeat("0", 64))),
		"MD5 digest":               manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "md5:" + d.Digest[7:39] })),
		"negative size":            manifestOf(changed(func(d *ocispec.Descriptor) { d.Size = -1 })),
		"size above MaxLayer":      manifestOf(changed(func(d *ocispec.Descriptor) { d.Size = MaxLayer + 1 })),
		"size overflows":           []byte(strings.Replace(string(manifestOf(layerOf("build"))), `"size":100`, `"size":1e30`, 1)),
		"checksum not hexadecimal": manifestOf(with(v1alpha1.BundleChecksumAnnotation, "xyz")),
		"signature not base64":     manifestOf(with(trustedresources.SignatureAnnotation, "!")),
		"signature too long":       manifestOf(with(trustedresources.SignatureAnnotation, strings.Repeat("A", resource.MaxSignatureLength+4))),
	} {
		if entries, err := Entries(manifest); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %+v and %v", name, entries, err)
		}
	}
}

func TestIsManifest_AcceptsOnlyImageManifests(t *testing.T) {
	for mediaType, want := range map[string]bool{
		"application/vnd.oci.image.manifest.v1+json":                true,
		"application/vnd.docker.distribution.manifest.v2+json":      true,
		"application/vnd.oci.image.index.v1+json":                   false,
		"application/vnd.docker.distribution.manifest.list.v2+json": false,
		"application/vnd.docker.distribution.manifest.v1+prettyjws": false,
		"": false,
	} {
		if IsManifest(mediaType) != want {
			t.Errorf("%q: got %t", mediaType, !want)
		}
	}
}

// tknLayer returns a layer as tkn bundle push writes it.
func tknLayer(content []byte) []byte {
	layer := must(tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tarOf(content))), nil }))
	return must(io.ReadAll(must(layer.Compressed())))
}

func TestResource_ReadsLayersOfOtherTools(t *testing.T) {
	asJSON := must(json.Marshal(must(resource.Signed(t.Context(), task("build"), nil))))
	for name, layer := range map[string][]byte{
		"tkn bundle push":      tknLayer([]byte(yamlTask)),
		"tar with YAML":        tarOf([]byte(yamlTask)),
		"tar with JSON":        tarOf(asJSON),
		"YAML without tar":     []byte(yamlTask),
		"gzipped JSON, no tar": gzipped(asJSON),
		"v1beta1 Task":         []byte(strings.Replace(yamlTask, "/v1", "/v1beta1", 1)),
		"tar with two files":   append(bytes.TrimRight(tarOf([]byte(yamlTask)), "\x00"), append(make([]byte, 512-len(yamlTask)%512), tarOf([]byte("another"))...)...),
	} {
		got, err := Entry{Kind: "task", Name: "build"}.Resource(layer)
		if err != nil || resource.KindOf(got) != resource.Task || got.GetName() != "build" {
			t.Errorf("%s: got %+v and %v", name, got, err)
		}
	}
}

// sparse returns a short tar archive with a sparse file of one terabyte.
// archive/tar reads this format but does not write it, so the test renames PAX
// records.
func sparse() []byte {
	const sparseMap = "1\n0\n3\n"
	content := append([]byte(sparseMap), make([]byte, 512-len(sparseMap)+3)...)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Name: "build", Mode: 0o600, Size: int64(len(content)), PAXRecords: map[string]string{
		"XYZ.sparse.major": "1", "XYZ.sparse.minor": "0", "XYZ.sparse.name": "build", "XYZ.sparse.realsize": fmt.Sprint(int64(1) << 40),
	}}
	if err := errors.Join(w.WriteHeader(header), func() error { _, err := w.Write(content); return err }(), w.Close()); err != nil {
		panic(err)
	}
	return bytes.ReplaceAll(archive.Bytes(), []byte("XYZ.sparse"), []byte("GNU.sparse"))
}

func TestResource_RejectsMalformedLayers(t *testing.T) {
	if r := tar.NewReader(bytes.NewReader(sparse())); must(r.Next()).Size != 1<<40 {
		t.Fatal("archive/tar does not read a sparse file")
	}
	tkn := tknLayer([]byte(yamlTask))
	zstdLayer := must(zstd.NewWriter(nil)).EncodeAll([]byte(yamlTask), nil)
	replaced := func(from, to string) []byte { return []byte(strings.Replace(yamlTask, from, to, 1)) }
	for name, layer := range map[string][]byte{
		"empty":                   nil,
		"not a resource":          []byte("\x00\x01\x02"),
		"tar without files":       must(io.ReadAll(io.LimitReader(bytes.NewReader(make([]byte, 1024)), 1024))),
		"tar with empty file":     tarOf(nil),
		"tar with text file":      tarOf([]byte("garbage")),
		"tar in tar":              tarOf(tarOf([]byte(yamlTask))),
		"gzip in gzip":            gzipped(gzipped([]byte(yamlTask))),
		"zstd":                    zstdLayer,
		"truncated gzip":          tkn[:len(tkn)-10],
		"truncated gzip header":   tkn[:5],
		"data after gzip":         append(bytes.Clone(tkn), "tail"...),
		"truncated tar":           tarOf([]byte(yamlTask))[:600],
		"gzip bomb":               gzipped(make([]byte, 64<<20)),
		"resource above MaxLayer": gzipped(replaced("busybox", strings.Repeat("x", MaxLayer))),
		"sparse file":             sparse(),
		"gzipped sparse file":     gzipped(sparse()),
		"other kind":              replaced("kind: Task", "kind: Pipeline"),
		"other name":              replaced("name: build", "name: other"),
		"no name":                 replaced("name: build", ""),
		"Pod":                     []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: build}\n"),
		"TaskRun":                 []byte("apiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {name: build}\n"),
		"unknown kind":            replaced("kind: Task", "kind: Nonsense"),
		"unknown version":         replaced("tekton.dev/v1", "tekton.dev/v3"),
		"no kind":                 replaced("kind: Task", ""),
		"List":                    []byte("apiVersion: v1\nkind: List\nitems: []\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := Entry{Kind: "task", Name: "build"}.Resource(layer)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %+v and %v", name, got, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 20*MaxLayer {
			t.Errorf("%s: reading allocated %d bytes", name, used)
		}
	}
}

// Entries returns no entry with an empty kind, but Resource must not rely on that.
func TestResource_RejectsPodForAllKinds(t *testing.T) {
	for _, kind := range []string{"pod", "Pod", "task", ""} {
		got, err := Entry{Kind: kind, Name: "build"}.Resource([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: build}\n"))
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: got %+v and %v", kind, got, err)
		}
	}
}
