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

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned/scheme"
	"github.com/tektoncd/pipeline/pkg/remote/oci"
	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Bounds of what is read, in bytes. The API server takes no resource of more
// than 1.5 MiB, and OCI registries no manifest of more than 4 MiB.
const (
	MaxManifest = 4 << 20
	MaxLayer    = 3 << 20
)

// ErrMalformed says that something is not what it should be: a manifest that is
// no Tekton bundle, or a layer that holds no resource.
var ErrMalformed = errors.New("malformed Tekton bundle")

// Entry is what the manifest says of one resource.
type Entry struct {
	// Kind and Name are Tekton's annotations: the kind in lower case.
	Kind, Name string
	// Checksum and Signature are there in bundles of ours only.
	Checksum, Signature []byte
	// Layer holds the resource.
	Layer ocispec.Descriptor
}

// docker's media type of an image manifest, which tkn writes.
const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

// IsManifest says whether a manifest of this media type can be a bundle.
func IsManifest(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == dockerManifest
}

// Entries reads the manifest of a bundle, as Tekton's resolver does
// (pkg/resolution/resolver/bundle in tektoncd/pipeline).
func Entries(manifest []byte) ([]Entry, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, fmt.Errorf("%w: the manifest: %w", ErrMalformed, err)
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
			return nil, fmt.Errorf("%w: layer %d has digest %.80q, expected a SHA-256", ErrMalformed, i, layer.Digest)
		}
		if layer.Size < 0 || layer.Size > MaxLayer {
			return nil, fmt.Errorf("%w: layer %d is of %d bytes, expected at most %d", ErrMalformed, i, layer.Size, MaxLayer)
		}
		var err error
		if entry.Checksum, err = hex.DecodeString(layer.Annotations[ChecksumAnnotation]); err != nil {
			return nil, fmt.Errorf("%w: layer %d, annotation %s: %w", ErrMalformed, i, ChecksumAnnotation, err)
		}
		entry.Signature, err = resource.DecodeSignature(layer.Annotations[trustedresources.SignatureAnnotation])
		if err != nil && !errors.Is(err, resource.ErrUnsigned) {
			return nil, fmt.Errorf("%w: layer %d: %w", ErrMalformed, i, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Resource is the resource in a layer whose digest has been verified. Tekton
// takes a tar, of which it reads the first file, or the resource as it is.
func (e Entry) Resource(layer []byte) (resource.Object, error) {
	layer, err := uncompressed(layer)
	if err != nil {
		return nil, fmt.Errorf("%w: layer %s: %w", ErrMalformed, e.Layer.Digest, err)
	}
	content, err := firstFile(layer)
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		content, err = layer, nil // no tar
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
		return nil, fmt.Errorf("%w: layer %s holds %s %q, its annotations say %s %q", ErrMalformed, e.Layer.Digest,
			kind, obj.GetName(), e.Kind, e.Name)
	}
	return obj, nil
}

func firstFile(archive []byte) ([]byte, error) {
	r := tar.NewReader(bytes.NewReader(archive))
	if _, err := r.Next(); err != nil {
		return nil, err
	}
	return readBounded(r) // a sparse file can be longer than its archive
}

var gzipMagic = []byte{0x1f, 0x8b}

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

func readBounded(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, MaxLayer+1))
	if err == nil && len(content) > MaxLayer {
		err = fmt.Errorf("more than %d bytes when unpacked", MaxLayer)
	}
	return content, err
}
