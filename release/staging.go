// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	orasremote "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// staging is a registry in this process. cosign signs the image there, so that a
// signature needs no other registry, and an unsigned image is never pushed.
type staging struct {
	server *http.Server
	tag    name.Tag
	images []v1.Descriptor // of the platforms
}

// stage starts the registry and pushes the image to it.
func stage(ctx context.Context, index v1.ImageIndex, version string) (*staging, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	s := &staging{server: &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}, images: manifest.Manifests}
	go func() {
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Print("release: the registry in this process has ended: ", err)
		}
	}()
	if s.tag, err = name.NewTag(listener.Addr().String() + "/controller:" + version); err == nil {
		err = remote.WriteIndex(s.tag, index, remote.WithContext(ctx))
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *staging) stop() { _ = s.server.Close() }

// reference returns how cosign reaches an image in the registry.
func (s *staging) reference(digest v1.Hash) string { return s.tag.Digest(digest.String()).Name() }

// copyToLayout copies the image and everything that refers to it to a directory in the
// format OCI image layout.
func (s *staging) copyToLayout(ctx context.Context, dir, version string) error {
	layout, err := oci.NewWithContext(ctx, dir)
	if err != nil {
		return err
	}
	return s.copy(ctx, layout, version)
}

// copyToRepository copies the image and everything that refers to it to a repository of
// another registry. The credentials are those of docker login.
func (s *staging) copyToRepository(ctx context.Context, repository, version string) error {
	target, err := openRepository(repository)
	if err != nil {
		return err
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return fmt.Errorf("credentials of docker login: %w", err)
	}
	target.Client = &auth.Client{Client: http.DefaultClient, Cache: auth.NewCache(), Credential: credentials.Credential(store)}
	return s.copy(ctx, target, version)
}

func (s *staging) copy(ctx context.Context, target oras.Target, version string) error {
	source, err := openRepository(s.tag.Context().Name())
	if err != nil {
		return err
	}
	// What refers to the image of a platform does not refer to the index.
	for _, image := range s.images {
		node := ocispec.Descriptor{MediaType: string(image.MediaType), Digest: digest.Digest(image.Digest.String()), Size: image.Size}
		if err := oras.ExtendedCopyGraph(ctx, source, target, node, oras.DefaultExtendedCopyGraphOptions); err != nil {
			return err
		}
	}
	_, err = oras.ExtendedCopy(ctx, source, version, target, version, oras.DefaultExtendedCopyOptions)
	return err
}

// openRepository returns a client of a repository. A registry on this machine has no
// TLS.
func openRepository(repository string) (*orasremote.Repository, error) {
	parsed, err := name.NewRepository(repository)
	if err != nil {
		return nil, err
	}
	opened, err := orasremote.NewRepository(parsed.Name())
	if err != nil {
		return nil, err
	}
	opened.PlainHTTP = parsed.Scheme() == "http"
	return opened, nil
}
