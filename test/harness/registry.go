// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/resolution/resolver/bundle"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Registry is an OCI registry in this process, without TLS or passwords. It keeps its
// content in memory.
type Registry struct{ *server }

// StartRegistry starts an empty registry with the referrers API of OCI 1.1. Options can
// turn the API off. Unlike other registries, this one lists as the artifact type of a
// referrer the media type of its configuration, not its artifactType.
func StartRegistry(ctx context.Context, options ...registry.Option) (*Registry, error) {
	defaults := []registry.Option{registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))}
	server, err := serve(ctx, registry.New(append(defaults, options...)...))
	return &Registry{server}, err
}

// StartRegistryWithoutReferrers starts an empty registry without the referrers API, as
// before OCI 1.1. Clients keep the referrers of a digest under a tag.
func StartRegistryWithoutReferrers(ctx context.Context) (*Registry, error) {
	return StartRegistry(ctx, registry.WithReferrersSupport(false))
}

// Host returns the host and port of the registry, with which references to its images
// start.
func (r *Registry) Host() string { return r.address }

// Bundles returns the repository of all Tekton bundles. Tekton's resolver records this
// repository, without a tag or digest, as the URI of a bundle.
func (r *Registry) Bundles() string { return r.Host() + "/bundles" }

// PushBundle pushes a Tekton bundle of resources and returns its reference by digest.
func (r *Registry) PushBundle(ctx context.Context, objects ...resource.Object) (string, error) {
	if len(objects) > bundle.MaximumBundleObjects {
		return "", fmt.Errorf("a bundle of %d resources: Tekton accepts at most %d", len(objects), bundle.MaximumBundleObjects)
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	for _, obj := range objects {
		layer, err := bundleLayer(obj)
		if err != nil {
			return "", err
		}
		if image, err = mutate.Append(image, layer); err != nil {
			return "", err
		}
	}
	digest, err := image.Digest()
	if err != nil {
		return "", err
	}
	ref, err := name.NewDigest(r.Bundles() + "@" + digest.String())
	if err != nil {
		return "", err
	}
	return ref.String(), remote.Write(ref, image, remote.WithContext(ctx))
}

// CopyImage copies an image to another reference of any repository, without the
// signatures that are attached to the image.
func CopyImage(ctx context.Context, from, to string) error {
	source, err := name.ParseReference(from)
	if err != nil {
		return err
	}
	target, err := name.ParseReference(to)
	if err != nil {
		return err
	}
	image, err := remote.Image(source, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	return remote.Write(target, image, remote.WithContext(ctx))
}

// PushImage pushes a small image with random content and returns its reference by
// digest.
func (r *Registry) PushImage(ctx context.Context, repository string) (name.Digest, error) {
	return PushImage(ctx, r.Host()+"/"+repository)
}

// PushImage pushes a small image with random content to any registry and returns its
// reference by digest. The repository starts with the host of the registry.
func PushImage(ctx context.Context, repository string, options ...remote.Option) (name.Digest, error) {
	const layers, bytes = 1, 64
	image, err := random.Image(bytes, layers)
	if err != nil {
		return name.Digest{}, err
	}
	digest, err := image.Digest()
	if err != nil {
		return name.Digest{}, err
	}
	ref, err := name.NewDigest(repository + "@" + digest.String())
	if err != nil {
		return name.Digest{}, err
	}
	return ref, remote.Write(ref, image, append(options, remote.WithContext(ctx))...)
}

// BundleRef returns a reference to a resource in a bundle, for Tekton's bundles resolver.
func BundleRef(bundleRef string, kind resource.Kind, name string) v1.ResolverRef {
	return resolverRef("bundles",
		bundle.ParamBundle, bundleRef, bundle.ParamKind, strings.ToLower(string(kind)), bundle.ParamName, name)
}

// bundleLayer returns a layer with one resource: a tar archive with one file, and the
// annotations that Tekton's resolver searches.
func bundleLayer(obj resource.Object) (mutate.Addendum, error) {
	gvk, err := kindOf(obj)
	if err != nil {
		return mutate.Addendum{}, err
	}
	manifest, err := Manifest(obj)
	if err != nil {
		return mutate.Addendum{}, err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: obj.GetName() + ".yaml", Mode: 0o600, Size: int64(len(manifest))}); err != nil {
		return mutate.Addendum{}, err
	}
	if _, err := w.Write(manifest); err != nil {
		return mutate.Addendum{}, err
	}
	if err := w.Close(); err != nil {
		return mutate.Addendum{}, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	return mutate.Addendum{Layer: layer, MediaType: types.OCILayer, Annotations: map[string]string{
		bundle.BundleAnnotationAPIVersion: gvk.GroupVersion().String(),
		bundle.BundleAnnotationKind:       strings.ToLower(gvk.Kind),
		bundle.BundleAnnotationName:       obj.GetName(),
	}}, err
}
