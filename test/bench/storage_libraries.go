// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	ggcrtypes "github.com/google/go-containerregistry/pkg/v1/types"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"
	"github.com/tektoncd/chains/pkg/chains/signing"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/oci/tektonbundle"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// libraryMethods returns the methods that run in this process: oci.Store, and
// the libraries with which other projects write the same bundles.
func libraryMethods(ctx context.Context, dir string, count int) ([]method, error) {
	ring, err := newRing(ctx, filepath.Join(dir, "secrets"))
	if err != nil {
		return nil, err
	}
	key, err := ring.Active(signing.TypeX509)
	if err != nil {
		return nil, err
	}
	workers := []int{1, 8, 32}
	return []method{
		{"oci.Store", workers, count, func(_ context.Context, prefix string, _ samples) (storer, error) {
			return ociStore{oci.Store{Registry: registry.NewClient(registry.Options{}), Prefix: prefix}, key, ring}, nil
		}},
		{"libraries", workers, count, func(ctx context.Context, prefix string, samples samples) (storer, error) {
			return newLibraryStore(ctx, prefix, samples, key)
		}},
	}, nil
}

// newRing returns a key ring with a new key as its active key.
func newRing(ctx context.Context, dir string) (*keys.Ring, error) {
	secret, _, err := fixtures.X509Secret()
	if err := errors.Join(err, secret.Write(dir)); err != nil {
		return nil, err
	}
	quiet := logging.WithLogger(ctx, zap.NewNop().Sugar())
	return keys.Load(quiet, dir, keys.Settings{SignerTypes: []string{signing.TypeX509}}), nil
}

// ociStore signs each resource and the image of its bundle.
type ociStore struct {
	oci.Store
	key  *keys.Key
	ring *keys.Ring
}

var _ retriever = ociStore{}

func (o ociStore) store(ctx context.Context, s sample) error {
	_, err := o.Put(ctx, s.task, nil, o.key, tekton.Newest)
	return err
}

func (o ociStore) find(ctx context.Context, s sample) error {
	_, err := o.Find(ctx, oci.IDOf(s.task), s.checksum, o.ring)
	return err
}

// libraryStore writes the same bundles as ociStore, with go-containerregistry and
// the library of cosign. The bundles are built and signed before the measurement.
// Unlike ociStore it does not read the bundle back.
type libraryStore struct {
	prefix  string
	images  map[string]signedImage // by file name of the sample
	options []remote.Option
}

// signedImage is the bundle of one resource and the signature of the bundle.
type signedImage struct {
	image     ggcr.Image
	tag       string
	signature []byte
}

func newLibraryStore(ctx context.Context, prefix string, samples samples, key *keys.Key) (*libraryStore, error) {
	pusher, err := remote.NewPusher()
	if err != nil {
		return nil, err
	}
	puller, err := remote.NewPuller()
	if err != nil {
		return nil, err
	}
	// With one pusher and one puller for all calls, only the first call asks for
	// the API version, and the config that all images share is uploaded once.
	l := &libraryStore{prefix: prefix, images: map[string]signedImage{}, options: []remote.Option{remote.Reuse(pusher), remote.Reuse(puller)}}
	for _, s := range samples.all() {
		if l.images[s.file()], err = newSignedImage(ctx, s, key); err != nil {
			return nil, fmt.Errorf("%s: %w", s.file(), err)
		}
	}
	return l, nil
}

func newSignedImage(ctx context.Context, s sample, key *keys.Key) (signedImage, error) {
	sig, err := key.Sign(ctx, s.checksum)
	if err != nil {
		return signedImage{}, err
	}
	built, err := tektonbundle.New(ctx, s.task, sig, tekton.Newest)
	if err != nil {
		return signedImage{}, err
	}
	img, err := partial.CompressedToImage(bundleImage{built})
	if err != nil {
		return signedImage{}, err
	}
	signature, err := imagesignature.Sign(ctx, built.Manifest.Descriptor.Digest, key, imagesignature.Options{})
	return signedImage{img, oci.StateTag(s.checksum), signature}, err
}

func (l *libraryStore) store(ctx context.Context, s sample) error {
	signed := l.images[s.file()]
	tag, err := name.NewTag(l.prefix + "/" + s.task.Namespace + ":" + signed.tag)
	if err != nil {
		return err
	}
	options := append(slices.Clone(l.options), remote.WithContext(ctx))
	if err := remote.Write(tag, signed.image, options...); err != nil {
		return err
	}
	digest, err := signed.image.Digest()
	if err != nil {
		return err
	}
	return ociremote.WriteAttestationNewBundleFormat(tag.Context().Digest(digest.String()), signed.signature,
		imagesignature.PredicateType, ociremote.WithRemoteOptions(options...))
}

// bundleImage presents a bundle as an image of go-containerregistry.
type bundleImage struct{ *tektonbundle.Bundle }

var _ partial.CompressedImageCore = bundleImage{}

// RawManifest implements partial.CompressedImageCore.
func (b bundleImage) RawManifest() ([]byte, error) { return b.Manifest.Content, nil }

// RawConfigFile implements partial.CompressedImageCore.
func (bundleImage) RawConfigFile() ([]byte, error) { return registry.EmptyConfig.Content, nil }

// MediaType implements partial.CompressedImageCore.
func (b bundleImage) MediaType() (ggcrtypes.MediaType, error) {
	return ggcrtypes.MediaType(b.Manifest.Descriptor.MediaType), nil
}

// LayerByDigest implements partial.CompressedImageCore.
func (b bundleImage) LayerByDigest(digest ggcr.Hash) (partial.CompressedLayer, error) {
	for _, blob := range []registry.Blob{b.Layer, registry.EmptyConfig} {
		if blob.Descriptor.Digest.String() == digest.String() {
			return static.NewLayer(blob.Content, ggcrtypes.MediaType(blob.Descriptor.MediaType)), nil
		}
	}
	return nil, fmt.Errorf("the bundle has no blob with digest %s", digest)
}
