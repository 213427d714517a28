// SPDX-License-Identifier: Apache-2.0

// Package images makes the images that the Pods of a real node need, and pushes them to the registry of the cluster.
package images

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// koDir is where ko puts a program into its image. Tekton names its programs there.
const koDir = "ko-app"

// Certificates is the file with the certificate authorities that this machine trusts.
const Certificates = "/etc/ssl/certs/ca-certificates.crt"

// Image is an image with one layer.
type Image struct {
	files        []file
	config       v1.Config
	repositories []string
}

// file is a file, directory or link in an image.
type file struct {
	header tar.Header
	source string // the file on this machine with the content, if not empty
	text   string // the content otherwise
}

// temporary is the directory for temporary files.
func temporary() file {
	return file{header: tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777}}
}

func program(source, name string) file {
	return file{header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755}, source: source}
}

// KoImage returns an image as ko would build it.
func KoImage(source, repository string) Image {
	name := path.Join(koDir, path.Base(repository))
	return Image{
		files:        []file{temporary(), program(source, name)},
		config:       v1.Config{Env: []string{"PATH=/bin:/" + koDir}, Entrypoint: []string{"/" + name}},
		repositories: []string{repository},
	}
}

// Base returns an image without programs, for programs that are linked statically: the
// certificates of this machine, and a user that is not root. ko's default base image, which
// needs the internet, has the same.
func Base(repository string) Image {
	return Image{
		files: []file{
			{header: tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, text: users},
			{header: tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(Certificates, "/"), Mode: 0o644}, source: Certificates},
		},
		config:       v1.Config{User: "65532", Env: []string{"SSL_CERT_FILE=" + Certificates}},
		repositories: []string{repository},
	}
}

// users are the lines of /etc/passwd.
const users = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"

// Push pushes the image to each of its repositories in a registry, with the tag latest.
func (i Image) Push(ctx context.Context, registry string) error {
	image, err := i.build()
	if err != nil {
		return fmt.Errorf("image %s: %w", i.repositories[0], err)
	}
	for _, repository := range i.repositories {
		ref, err := name.ParseReference(Reference(registry, repository), name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, image, remote.WithContext(ctx)); err != nil {
			return fmt.Errorf("push %s: %w", ref, err)
		}
	}
	return nil
}

// Reference returns the reference of a pushed image.
func Reference(registry, repository string) string { return registry + "/" + repository + ":latest" }

func (i Image) build() (v1.Image, error) {
	content, err := i.archive()
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config = "linux", runtime.GOARCH, i.config
	return mutate.ConfigFile(image, config)
}

// archive returns a tar archive with the files.
func (i Image) archive() ([]byte, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range i.files {
		content := []byte(f.text)
		if f.source != "" {
			var err error
			if content, err = os.ReadFile(f.source); err != nil {
				return nil, err
			}
		}
		header := f.header
		header.Size = int64(len(content))
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}
