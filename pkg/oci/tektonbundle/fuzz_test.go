// SPDX-License-Identifier: Apache-2.0

package tektonbundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/tektoncd/pipeline/pkg/remote/oci"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Tekton parses manifests with go-containerregistry. For each manifest that
// Entries accepts, go-containerregistry must return the same names, digests and
// sizes.
func FuzzEntries(f *testing.F) {
	for _, object := range objects() {
		built, err := New(f.Context(), object, []byte("sig"), tekton.Newest)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(built.Manifest.Content)
	}
	f.Add(manifestOf(layers(oci.MaximumBundleObjects + 1)...))
	f.Add([]byte(`{"layers":[{"digest":"sha256:"}]}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		entries, err := Entries(manifest)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("got %v", err)
			}
			return
		}
		var upstream v1.Manifest
		if err := json.Unmarshal(manifest, &upstream); err != nil || len(upstream.Layers) != len(entries) || len(entries) > oci.MaximumBundleObjects {
			t.Fatalf("got %d entries for %d layers: %v", len(entries), len(upstream.Layers), err)
		}
		for i, entry := range entries {
			if layer := upstream.Layers[i]; !sameLayer(entry, layer) {
				t.Fatalf("got %+v for %+v", entry, layer)
			}
		}
	})
}

func sameLayer(entry Entry, layer v1.Descriptor) bool {
	return layer.Annotations[oci.KindAnnotation] == entry.Kind && layer.Annotations[oci.TitleAnnotation] == entry.Name &&
		entry.Kind != "" && entry.Name != "" && entry.Layer.Digest.Algorithm() == digest.SHA256 &&
		layer.Digest.String() == entry.Layer.Digest.String() && layer.Size == entry.Layer.Size && layer.Size <= MaxLayer
}

// Layers are untrusted. Resource returns a resource with the kind and name of the
// entry, or ErrMalformed.
func FuzzEntryResource(f *testing.F) {
	for _, seed := range [][]byte{[]byte(yamlTask), tarOf([]byte(yamlTask)), gzipped(tarOf([]byte(yamlTask))), sparse()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, layer []byte) {
		before := bytes.Clone(layer)
		got, err := Entry{Kind: "task", Name: "build"}.Resource(layer)
		if !bytes.Equal(before, layer) {
			t.Fatal("the layer was changed")
		}
		switch {
		case err != nil && !errors.Is(err, ErrMalformed):
			t.Fatalf("got %v", err)
		case err == nil && (resource.KindOf(got) != resource.Task || got.GetName() != "build"):
			t.Fatalf("got %+v", got)
		case err == nil:
			if _, err := resource.Checksum(t.Context(), got, tekton.Newest); err != nil {
				t.Fatalf("got no checksum: %v", err)
			}
		}
	})
}
