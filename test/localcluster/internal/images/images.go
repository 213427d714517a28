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

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// koDir is where ko puts a program into its image. Tekton names its programs there.
const koDir = "ko-app"

// Image is an image with one program.
type Image struct {
	// Program is the file of the program on this machine.
	Program string
	// Path is the path of the program in the image.
	Path string
	// Links are names of the same program.
	Links []string
	// Repositories are the repositories to push to.
	Repositories []string
}

// KoImage returns an image as ko would build it.
func KoImage(program, repository string) Image {
	return Image{Program: program, Path: path.Join(koDir, path.Base(repository)), Repositories: []string{repository}}
}

// Push pushes the image to each of its repositories in a registry, with the tag latest.
func (i Image) Push(ctx context.Context, registry string) error {
	image, err := i.build()
	if err != nil {
		return fmt.Errorf("image of %s: %w", i.Program, err)
	}
	for _, repository := range i.Repositories {
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
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Env = []string{"PATH=/bin:/" + koDir}
	config.Config.Entrypoint = []string{"/" + i.Path}
	return mutate.ConfigFile(image, config)
}

// archive returns a tar archive with the program, its links and a directory for temporary files.
func (i Image) archive() ([]byte, error) {
	program, err := os.ReadFile(i.Program)
	if err != nil {
		return nil, err
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	headers := []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: i.Path, Mode: 0o755, Size: int64(len(program))},
	}
	for _, link := range i.Links {
		headers = append(headers, &tar.Header{Typeflag: tar.TypeSymlink, Name: link, Linkname: "/" + i.Path, Mode: 0o777})
	}
	for _, header := range headers {
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if header.Typeflag == tar.TypeReg {
			if _, err := w.Write(program); err != nil {
				return nil, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}
