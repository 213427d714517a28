// Package image has the pieces that OCI images are made of, in memory.
package registry

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blob is content by its digest: a layer, a configuration, a manifest.
type Blob struct {
	Descriptor ocispec.Descriptor
	Content    []byte
}

// NewBlob describes content.
func NewBlob(mediaType string, content []byte) Blob {
	return Blob{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}, content}
}

// Empty is the configuration of images that have none, the same for all
// (image specification 1.1, "Guidance for an Empty Descriptor").
var Empty = Blob{ocispec.DescriptorEmptyJSON, ocispec.DescriptorEmptyJSON.Data}

// maxInline bounds the layers that a manifest carries itself, in bytes: who
// reads the manifest then has the content, too.
const maxInline = 32 << 10

// NewManifest is the manifest of an image with one layer, and with a subject if
// it is a referrer. The same arguments make the same manifest.
func NewManifest(artifactType string, layer Blob, subject *ocispec.Descriptor, annotations map[string]string) (Blob, error) {
	const schemaVersion = 2
	descriptor := layer.Descriptor
	if len(layer.Content) <= maxInline {
		descriptor.Data = layer.Content
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: schemaVersion},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       Empty.Descriptor,
		Layers:       []ocispec.Descriptor{descriptor},
		Subject:      subject,
		Annotations:  annotations,
	})
	return NewBlob(ocispec.MediaTypeImageManifest, manifest), err
}

// Inline is the content that a descriptor carries, verified; nil if it carries
// none.
func Inline(descriptor ocispec.Descriptor) ([]byte, error) {
	if len(descriptor.Data) == 0 {
		return nil, nil
	}
	if digest.FromBytes(descriptor.Data) != descriptor.Digest {
		return nil, fmt.Errorf("the manifest carries other data for %s than the digest says", descriptor.Digest)
	}
	return descriptor.Data, nil
}
