// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func layerOf(size int) Blob {
	return NewBlob("application/octet-stream", bytes.Repeat([]byte("a"), size))
}

// Tekton and cosign read manifests with go-containerregistry, so this test does,
// too.
func TestNewManifest_IsReadByGoContainerRegistry(t *testing.T) {
	subject := NewBlob(ocispec.MediaTypeImageManifest, []byte("subject")).Descriptor
	layer := layerOf(10)
	layer.Descriptor.Annotations = map[string]string{"a": "b"}
	built, err := NewManifest("application/x", layer, &subject, map[string]string{"c": "d"})
	if err != nil {
		t.Fatal(err)
	}
	read, err := v1.ParseManifest(bytes.NewReader(built.Content))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case read.SchemaVersion != 2 || string(read.MediaType) != ocispec.MediaTypeImageManifest || read.Annotations["c"] != "d":
		t.Errorf("got %+v", read)
	case read.Config.Digest.String() != digest.FromBytes([]byte("{}")).String() || read.Config.Size != 2 || string(read.Config.Data) != "{}":
		t.Errorf("got the configuration %+v", read.Config)
	case len(read.Layers) != 1 || read.Layers[0].Digest.String() != digest.FromBytes(layer.Content).String() || read.Layers[0].Size != 10 || read.Layers[0].Annotations["a"] != "b":
		t.Errorf("got the layers %+v", read.Layers)
	case read.Subject == nil || read.Subject.Digest.String() != subject.Digest.String():
		t.Errorf("got the subject %+v", read.Subject)
	case built.Descriptor.Digest != digest.FromBytes(built.Content) || built.Descriptor.Size != int64(len(built.Content)):
		t.Errorf("got the descriptor %+v", built.Descriptor)
	}
}

func TestNewManifest_IsReproducible(t *testing.T) {
	annotations := map[string]string{}
	for key := range strings.SplitSeq("abcdefghijklmnop", "") {
		annotations[key] = key
	}
	first, err := NewManifest("application/x", layerOf(10), nil, annotations)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if again, err := NewManifest("application/x", layerOf(10), nil, annotations); err != nil || again.Descriptor.Digest != first.Descriptor.Digest {
			t.Fatalf("got %s and %v, then %s", first.Descriptor.Digest, err, again.Descriptor.Digest)
		}
	}
}

func TestNewManifest_InlinesSmallLayers(t *testing.T) {
	for size, inlined := range map[int]bool{1: true, maxInline: true, maxInline + 1: false} {
		layer := layerOf(size)
		built, err := NewManifest("application/x", layer, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var read ocispec.Manifest
		if err := json.Unmarshal(built.Content, &read); err != nil {
			t.Fatal(err)
		}
		content, err := Inline(read.Layers[0])
		if err != nil || inlined != bytes.Equal(content, layer.Content) || !inlined && content != nil {
			t.Errorf("%d bytes: got %d bytes and %v", size, len(content), err)
		}
		if layer.Descriptor.Data != nil {
			t.Errorf("%d bytes: the caller's layer was changed", size)
		}
	}
}

func TestInline_RejectsDigestMismatch(t *testing.T) {
	for name, change := range map[string]func(*ocispec.Descriptor){
		"other data":            func(d *ocispec.Descriptor) { d.Data = []byte("other") },
		"data one byte short":   func(d *ocispec.Descriptor) { d.Data = d.Data[1:] },
		"digest of other data":  func(d *ocispec.Descriptor) { d.Digest = digest.FromString("other") },
		"no digest":             func(d *ocispec.Descriptor) { d.Digest = "" },
		"digest without value":  func(d *ocispec.Descriptor) { d.Digest = "sha256" },
		"other digest function": func(d *ocispec.Descriptor) { d.Digest = digest.Digest("sha512:" + strings.Repeat("0", 128)) },
	} {
		layer := layerOf(10)
		layer.Descriptor.Data = layer.Content
		change(&layer.Descriptor)
		if content, err := Inline(layer.Descriptor); err == nil {
			t.Errorf("%s: got %q", name, content)
		}
	}
}
