// Package tektonbundle builds and reads Tekton bundles: OCI images with one resource
// in each layer (https://tekton.dev/docs/pipelines/tekton-bundle-contracts/).
package tektonbundle

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tektoncd/pipeline/pkg/remote/oci"
	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// ArtifactType is the type of the bundles built here. Those of others have none,
// and say by their configuration that they are container images.
const ArtifactType = "application/vnd.dev.tekton.bundle.v1"

// What we write on a layer besides Tekton's annotations, so that the manifest
// alone tells what is in it.
const (
	NamespaceAnnotation = "trustedresources.tekton.dev/namespace"
	// ChecksumAnnotation is Tekton's checksum of the resource, lower-case hex.
	ChecksumAnnotation = "trustedresources.tekton.dev/checksum"
)

// Bundle is a Tekton bundle of one signed resource.
type Bundle struct {
	// Manifest has the media type of an OCI image.
	Manifest registry.Blob
	// Layer holds the resource.
	Layer registry.Blob
	// Checksum is Tekton's, of the resource.
	Checksum []byte
}

// New builds the bundle of a resource that carries this signature. It is
// reproducible: the digest depends on nothing but what the checksum covers, and
// the signature.
func New(ctx context.Context, obj resource.Object, signature []byte) (*Bundle, error) {
	signed, err := resource.Signed(ctx, obj, signature)
	if err != nil {
		return nil, err
	}
	checksum, err := signed.Checksum()
	if err != nil {
		return nil, err
	}
	layer, err := newLayer(signed, checksum)
	if err != nil {
		return nil, err
	}
	manifest, err := registry.NewManifest(ArtifactType, layer, nil, nil)
	if err != nil {
		return nil, err
	}
	return &Bundle{Manifest: manifest, Layer: layer, Checksum: checksum}, nil
}

// newLayer is a tar with a single file and no times in it. It is not compressed:
// other releases of a compressor write other bytes.
func newLayer(obj resource.Object, checksum []byte) (registry.Blob, error) {
	content, err := json.Marshal(obj) // indented, it could be longer than MaxLayer
	if err != nil {
		return registry.Blob{}, err
	}
	kind := resource.KindOf(obj)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Format: tar.FormatPAX, Name: obj.GetName() + ".json", Mode: 0o644, Size: int64(len(content))}
	if err := w.WriteHeader(header); err != nil {
		return registry.Blob{}, err
	}
	if _, err := w.Write(content); err != nil {
		return registry.Blob{}, err
	}
	if err := w.Close(); err != nil {
		return registry.Blob{}, err
	}
	if archive.Len() > MaxLayer {
		return registry.Blob{}, fmt.Errorf("%s %s/%s takes %d bytes, expected at most %d", kind, obj.GetNamespace(), obj.GetName(), archive.Len(), MaxLayer)
	}
	layer := registry.NewBlob(ocispec.MediaTypeImageLayer, archive.Bytes())
	layer.Descriptor.Annotations = map[string]string{
		oci.KindAnnotation:                   kind.ConfigName(),
		oci.APIVersionAnnotation:             kind.GroupVersionKind().GroupVersion().String(),
		oci.TitleAnnotation:                  obj.GetName(),
		NamespaceAnnotation:                  obj.GetNamespace(),
		ChecksumAnnotation:                   hex.EncodeToString(checksum),
		trustedresources.SignatureAnnotation: obj.GetAnnotations()[trustedresources.SignatureAnnotation],
	}
	return layer, nil
}
