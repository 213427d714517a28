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

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

func without(annotation string) ocispec.Descriptor {
	layer := layerOf("build")
	delete(layer.Annotations, annotation)
	return layer
}

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

func TestEntriesOfBundlesThatOthersPushed(t *testing.T) {
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
		t.Errorf("the longest layer: got %+v and %v", entries, err)
	}
}

func TestManifestsThatAreNoBundles(t *testing.T) {
	for name, manifest := range map[string][]byte{
		"nothing":                  nil,
		"no JSON":                  []byte("{"),
		"an array":                 []byte("[]"),
		"null":                     []byte("null"),
		"layers of another type":   []byte(`{"layers": {}}`),
		"an index":                 []byte(`{"manifests": []}`),
		"no layers":                manifestOf(),
		"one layer too many":       manifestOf(layers(oci.MaximumBundleObjects + 1)...),
		"no kind":                  manifestOf(without(oci.KindAnnotation)),
		"no name":                  manifestOf(without(oci.TitleAnnotation)),
		"no version":               manifestOf(without(oci.APIVersionAnnotation)),
		"no name in the second":    manifestOf(layerOf("a"), without(oci.TitleAnnotation)),
		"an empty kind":            manifestOf(with(oci.KindAnnotation, "")),
		"no digest":                manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "" })),
		"a short digest":           manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "sha256:abc" })),
		"an upper-case digest":     manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "sha256:" + "A" + d.Digest[8:] })),
		"a digest that is a path":  manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "../../manifests/latest" })),
		"another digest function":  []byte(strings.ReplaceAll(string(manifestOf(layerOf("build"))), "sha256:", "sha512:"+strings.Repeat("0", 64))),
		"an old digest function":   manifestOf(changed(func(d *ocispec.Descriptor) { d.Digest = "md5:" + d.Digest[7:39] })),
		"a negative size":          manifestOf(changed(func(d *ocispec.Descriptor) { d.Size = -1 })),
		"a size too big":           manifestOf(changed(func(d *ocispec.Descriptor) { d.Size = MaxLayer + 1 })),
		"a size that overflows":    []byte(strings.Replace(string(manifestOf(layerOf("build"))), `"size":100`, `"size":1e30`, 1)),
		"a checksum that is none":  manifestOf(with(ChecksumAnnotation, "xyz")),
		"a signature that is none": manifestOf(with(trustedresources.SignatureAnnotation, "!")),
		"a signature too long":     manifestOf(with(trustedresources.SignatureAnnotation, strings.Repeat("A", resource.MaxSignatureLength+4))),
	} {
		if entries, err := Entries(manifest); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %+v and %v", name, entries, err)
		}
	}
}

func TestOnlyImageManifestsCanBeBundles(t *testing.T) {
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

// tknLayer is a layer as tkn bundle push makes it.
func tknLayer(content []byte) []byte {
	layer := must(tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tarOf(content))), nil }))
	return must(io.ReadAll(must(layer.Compressed())))
}

func TestResourcesInLayersAsOthersMakeThem(t *testing.T) {
	asJSON := must(json.Marshal(must(resource.Signed(t.Context(), task("build"), nil))))
	for name, layer := range map[string][]byte{
		"tkn":               tknLayer([]byte(yamlTask)),
		"a tar":             tarOf([]byte(yamlTask)),
		"a tar of JSON":     tarOf(asJSON),
		"the resource":      []byte(yamlTask),
		"the resource, zip": gzipped(asJSON),
		"one of v1beta1":    []byte(strings.Replace(yamlTask, "/v1", "/v1beta1", 1)),
		"more files":        append(bytes.TrimRight(tarOf([]byte(yamlTask)), "\x00"), append(make([]byte, 512-len(yamlTask)%512), tarOf([]byte("another"))...)...),
	} {
		got, err := Entry{Kind: "task", Name: "build"}.Resource(layer)
		if err != nil || resource.KindOf(got) != resource.Task || got.GetName() != "build" {
			t.Errorf("%s: got %+v and %v", name, got, err)
		}
	}
}

// sparse is a tar whose file is a terabyte of holes: a format that archive/tar
// reads and does not write.
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

func TestLayersThatHoldNoResource(t *testing.T) {
	if r := tar.NewReader(bytes.NewReader(sparse())); must(r.Next()).Size != 1<<40 {
		t.Fatal("that is no sparse file")
	}
	tkn := tknLayer([]byte(yamlTask))
	zip := must(zstd.NewWriter(nil)).EncodeAll([]byte(yamlTask), nil)
	of := func(from, to string) []byte { return []byte(strings.Replace(yamlTask, from, to, 1)) }
	for name, layer := range map[string][]byte{
		"nothing":               nil,
		"garbage":               []byte("\x00\x01\x02"),
		"an empty tar":          must(io.ReadAll(io.LimitReader(bytes.NewReader(make([]byte, 1024)), 1024))),
		"a tar of nothing":      tarOf(nil),
		"a tar of garbage":      tarOf([]byte("garbage")),
		"a tar in a tar":        tarOf(tarOf([]byte(yamlTask))),
		"zip in zip":            gzipped(gzipped([]byte(yamlTask))),
		"zstd":                  zip,
		"a truncated zip":       tkn[:len(tkn)-10],
		"the start of a zip":    tkn[:5],
		"a zip with a tail":     append(bytes.Clone(tkn), "tail"...),
		"a truncated tar":       tarOf([]byte(yamlTask))[:600],
		"a bomb":                gzipped(make([]byte, 64<<20)),
		"a bomb of a resource":  gzipped(of("busybox", strings.Repeat("x", MaxLayer))),
		"a sparse file":         sparse(),
		"a zipped sparse file":  gzipped(sparse()),
		"another kind":          of("kind: Task", "kind: Pipeline"),
		"another name":          of("name: build", "name: other"),
		"no name":               of("name: build", ""),
		"a Pod":                 []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: build}\n"),
		"a TaskRun":             []byte("apiVersion: tekton.dev/v1\nkind: TaskRun\nmetadata: {name: build}\n"),
		"a kind that is none":   of("kind: Task", "kind: Nonsense"),
		"a version of tomorrow": of("tekton.dev/v1", "tekton.dev/v3"),
		"no kind":               of("kind: Task", ""),
		"a list":                []byte("apiVersion: v1\nkind: List\nitems: []\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := Entry{Kind: "task", Name: "build"}.Resource(layer)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %+v and %v", name, got, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 20*MaxLayer {
			t.Errorf("%s took %d bytes of memory", name, used)
		}
	}
}

// An entry without a kind cannot be of Entries; nor may it match what has none.
func TestAPodIsNoResourceWhateverTheAnnotationsSay(t *testing.T) {
	for _, kind := range []string{"pod", "Pod", "task", ""} {
		got, err := Entry{Kind: kind, Name: "build"}.Resource([]byte("apiVersion: v1\nkind: Pod\nmetadata: {name: build}\n"))
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: got %+v and %v", kind, got, err)
		}
	}
}
