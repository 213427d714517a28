// SPDX-License-Identifier: Apache-2.0

package tektonbundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
	"github.com/tektoncd/pipeline/pkg/remote/oci"
	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Limits of manifests and layers, in bytes. The API server accepts resources up to
// 1.5 MiB, and OCI registries accept manifests up to 4 MiB.
const (
	MaxManifest = 4 << 20
	MaxLayer    = 3 << 20
)

// ErrMalformed means that a manifest is not a Tekton bundle, or that a layer does
// not hold the resource that the manifest names.
var ErrMalformed = errors.New("malformed Tekton bundle")

// Entry is the part of a manifest that describes one resource.
type Entry struct {
	// Kind (in lower case) and Name are the values of Tekton's annotations.
	Kind, Name string
	// Checksum and Signature are the values of annotations that New writes. They
	// are empty in bundles of other tools.
	Checksum, Signature []byte
	// Layer is the descriptor of the layer with the resource.
	Layer ocispec.Descriptor
}

// dockerManifest is Docker's media type of image manifests. tkn bundle push writes
// it.
const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

// IsManifest reports whether a manifest with this media type can be a bundle.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// Entries parses the manifest of a bundle as Tekton's resolver does
// (pkg/resolution/resolver/bundle in tektoncd/pipeline). The error wraps
// ErrMalformed.
func Entries(manifest []byte) ([]Entry, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("%w: parsing the manifest: %w", ErrMalformed, err)
	}
	var asTekton v1.Manifest // Tekton's resolver refuses some digests that ocispec accepts
	if err := json.Unmarshal(manifest, &asTekton); err != nil {
		return nil, fmt.Errorf("%w: parsing the manifest: %w", ErrMalformed, err)
	}
	if len(m.Layers) == 0 || len(m.Layers) > oci.MaximumBundleObjects {
		return nil, fmt.Errorf("%w: found %d layers, expected 1 to %d", ErrMalformed, len(m.Layers), oci.MaximumBundleObjects)
	}
	entries := make([]Entry, 0, len(m.Layers))
	for i, layer := range m.Layers {
		entry := Entry{Kind: layer.Annotations[oci.KindAnnotation], Name: layer.Annotations[oci.TitleAnnotation], Layer: layer}
		if entry.Kind == "" || entry.Name == "" || layer.Annotations[oci.APIVersionAnnotation] == "" {
			return nil, fmt.Errorf("%w: layer %d lacks one of the annotations %s, %s and %s", ErrMalformed, i,
				oci.KindAnnotation, oci.TitleAnnotation, oci.APIVersionAnnotation)
		}
		if err := layer.Digest.Validate(); err != nil || layer.Digest.Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("%w: layer %d has digest %.80q, expected a SHA-256 digest", ErrMalformed, i, layer.Digest)
		}
		if layer.Size < 0 || layer.Size > MaxLayer {
			return nil, fmt.Errorf("%w: layer %d has %d bytes, expected at most %d", ErrMalformed, i, layer.Size, MaxLayer)
		}
		var err error
		if entry.Checksum, err = hex.DecodeString(layer.Annotations[v1alpha1.BundleChecksumAnnotation]); err != nil {
			return nil, fmt.Errorf("%w: layer %d, annotation %s: %w", ErrMalformed, i, v1alpha1.BundleChecksumAnnotation, err)
		}
		entry.Signature, err = resource.DecodeSignature(layer.Annotations[trustedresources.SignatureAnnotation])
		if err != nil && !errors.Is(err, resource.ErrUnsigned) {
			return nil, fmt.Errorf("%w: layer %d: %w", ErrMalformed, i, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Resource decodes the resource in a layer. The caller has verified the digest of
// the layer. As Tekton does, Resource accepts a tar archive, of which it reads the
// first file, or the resource without an archive. The error wraps ErrMalformed.
func (e Entry) Resource(layer []byte) (resource.Object, error) {
	layer, err := uncompressed(layer)
	if err != nil {
		return nil, fmt.Errorf("%w: layer %s: %w", ErrMalformed, e.Layer.Digest, err)
	}
	content, err := firstFile(layer)
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		content, err = layer, nil // the layer is not a tar archive
	}
	if err != nil {
		return nil, fmt.Errorf("%w: layer %s: %w", ErrMalformed, e.Layer.Digest, err)
	}
	elements, err := resource.Elements(content)
	if err == nil {
		err = resource.CheckContent(content, elements)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: layer %s: %w", ErrMalformed, e.Layer.Digest, err)
	}
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(content, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: layer %s: %w", ErrMalformed, e.Layer.Digest, err)
	}
	obj, ok := decoded.(resource.Object)
	if !ok {
		return nil, fmt.Errorf("%w: layer %s holds a %T, expected a Task, Pipeline or StepAction", ErrMalformed, e.Layer.Digest, decoded)
	}
	if kind := resource.KindOf(obj).ConfigName(); kind != e.Kind || obj.GetName() != e.Name {
		return nil, fmt.Errorf("%w: layer %s holds %s %q, expected %s %q as in its annotations", ErrMalformed, e.Layer.Digest,
			kind, obj.GetName(), e.Kind, e.Name)
	}
	return obj, nil
}

// firstFile returns the content of the first file in a tar archive.
func firstFile(archive []byte) ([]byte, error) {
	r := tar.NewReader(bytes.NewReader(archive))
	if _, err := r.Next(); err != nil {
		return nil, err
	}
	return readBounded(r) // a sparse file can be longer than the archive
}

// gzipMagic is the start of gzip data (RFC 1952, section 2.3.1).
var gzipMagic = []byte{0x1f, 0x8b}

// uncompressed returns the layer without gzip compression.
func uncompressed(layer []byte) ([]byte, error) {
	if !bytes.HasPrefix(layer, gzipMagic) {
		return layer, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		return nil, err
	}
	return readBounded(r)
}

// readBounded reads at most MaxLayer bytes. Longer content is an error.
func readBounded(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, MaxLayer+1))
	if err == nil && len(content) > MaxLayer {
		err = fmt.Errorf("the unpacked content has more than %d bytes", MaxLayer)
	}
	return content, err
}
