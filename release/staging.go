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

// staging is a registry in this process. cosign signs the images there, so that a
// signature needs no other registry, and an unsigned image is never pushed.
type staging struct {
	server *http.Server
	host   string
}

// stage starts the registry and pushes the images to it.
func stage(ctx context.Context, images []image, version string) (*staging, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	s := &staging{server: &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}, host: listener.Addr().String()}
	go func() {
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Print("release: the registry in this process has ended: ", err)
		}
	}()
	for _, made := range images {
		if err := s.push(ctx, made, version); err != nil {
			s.stop()
			return nil, err
		}
	}
	return s, nil
}

func (s *staging) push(ctx context.Context, made image, version string) error {
	tag, err := name.NewTag(s.repository(made) + ":" + version)
	if err != nil {
		return err
	}
	return remote.WriteIndex(tag, made.index, remote.WithContext(ctx))
}

func (s *staging) stop() { _ = s.server.Close() }

func (s *staging) repository(made image) string { return s.host + "/" + made.command }

// reference returns how cosign reaches a part of an image in the registry.
func (s *staging) reference(made image, digest v1.Hash) string {
	return s.repository(made) + "@" + digest.String()
}

// copyToLayout copies an image and everything that refers to it to a directory in the
// format OCI image layout.
func (s *staging) copyToLayout(ctx context.Context, made image, dir, version string) error {
	layout, err := oci.NewWithContext(ctx, dir)
	if err != nil {
		return err
	}
	return s.copy(ctx, made, layout, version)
}

// copyToRepository copies an image and everything that refers to it to its repository in
// another registry. The credentials are those of docker login.
func (s *staging) copyToRepository(ctx context.Context, made image, version string) error {
	target, err := openRepository(made.repository)
	if err != nil {
		return err
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return fmt.Errorf("credentials of docker login: %w", err)
	}
	target.Client = &auth.Client{Client: http.DefaultClient, Cache: auth.NewCache(), Credential: credentials.Credential(store)}
	return s.copy(ctx, made, target, version)
}

func (s *staging) copy(ctx context.Context, made image, target oras.Target, version string) error {
	source, err := openRepository(s.repository(made))
	if err != nil {
		return err
	}
	manifest, err := made.index.IndexManifest()
	if err != nil {
		return err
	}
	// What refers to the image of a platform does not refer to the index.
	for _, image := range manifest.Manifests {
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
