// SPDX-License-Identifier: Apache-2.0

// Package tektonbundle builds and reads Tekton bundles: OCI images with one
// resource in each layer
// (https://tekton.dev/docs/pipelines/tekton-bundle-contracts/).
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

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// ArtifactType is the artifact type of the bundles that New builds. Bundles of
// other tools have no artifact type and the configuration of a container image.
const ArtifactType = "application/vnd.dev.tekton.bundle.v1"

// Bundle is a Tekton bundle with one signed resource.
type Bundle struct {
	// Manifest is an OCI image manifest.
	Manifest registry.Blob
	// Layer holds the resource.
	Layer registry.Blob
	// Checksum is Tekton's checksum of the resource in the dialect of the bundle.
	Checksum []byte
}

// New builds a bundle of the resource with this signature. The bundle is
// reproducible: its digest depends only on the signature and on the fields that
// the checksum covers.
func New(ctx context.Context, obj resource.Object, signature []byte, dialect tekton.Dialect) (*Bundle, error) {
	signed, err := resource.Signed(ctx, obj, signature)
	if err != nil {
		return nil, err
	}
	checksum, err := resource.Checksum(ctx, signed, dialect)
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

// newLayer returns a tar archive with one file and without timestamps. The archive
// is not compressed, because the output of a compressor changes between releases.
func newLayer(obj resource.Object, checksum []byte) (registry.Blob, error) {
	content, err := json.Marshal(obj) // not indented: indentation could exceed MaxLayer
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
		return registry.Blob{}, fmt.Errorf("%s %s/%s needs a layer of %d bytes, expected at most %d", kind, obj.GetNamespace(), obj.GetName(), archive.Len(), MaxLayer)
	}
	layer := registry.NewBlob(ocispec.MediaTypeImageLayer, archive.Bytes())
	layer.Descriptor.Annotations = map[string]string{
		oci.KindAnnotation:                   kind.ConfigName(),
		oci.APIVersionAnnotation:             kind.GroupVersionKind().GroupVersion().String(),
		oci.TitleAnnotation:                  obj.GetName(),
		v1alpha1.BundleNamespaceAnnotation:   obj.GetNamespace(),
		v1alpha1.BundleChecksumAnnotation:    hex.EncodeToString(checksum),
		trustedresources.SignatureAnnotation: obj.GetAnnotations()[trustedresources.SignatureAnnotation],
	}
	return layer, nil
}
