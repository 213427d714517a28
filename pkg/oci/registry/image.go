// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Blob is content with its descriptor: a layer, a configuration or a manifest.
type Blob struct {
	Descriptor ocispec.Descriptor
	Content    []byte
}

// NewBlob returns content with its descriptor.
func NewBlob(mediaType string, content []byte) Blob {
	return Blob{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}, content}
}

// EmptyConfig is the configuration of all images that NewManifest builds (image
// specification 1.1, "Guidance for an Empty Descriptor").
var EmptyConfig = Blob{ocispec.DescriptorEmptyJSON, ocispec.DescriptorEmptyJSON.Data}

// maxInline bounds the layers that NewManifest puts into the manifest, in bytes.
// Reading such a layer takes no further request.
const maxInline = 32 << 10

// NewManifest builds the manifest of an image with one layer. A referrer has a
// subject, other images have none. The same arguments give the same digest.
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
		Config:       EmptyConfig.Descriptor,
		Layers:       []ocispec.Descriptor{descriptor},
		Subject:      subject,
		Annotations:  annotations,
	})
	return NewBlob(ocispec.MediaTypeImageManifest, manifest), err
}

// Inline returns the content that a descriptor carries in its field data, after
// it has verified the digest. It returns nil if the field is empty.
func Inline(descriptor ocispec.Descriptor) ([]byte, error) {
	if len(descriptor.Data) == 0 {
		return nil, nil
	}
	if found := digest.FromBytes(descriptor.Data); found != descriptor.Digest {
		return nil, fmt.Errorf("the inline data of a descriptor has digest %s, expected %.100q", found, descriptor.Digest)
	}
	return descriptor.Data, nil
}
