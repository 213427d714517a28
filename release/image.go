// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/ko/pkg/build"
)

// baseName is how the image names its base. The base is in no registry: this program
// makes it.
const baseName = "trusted-resources.invalid/base"

// image is a program of cmd/ for all platforms, and what becomes of the image.
type image struct {
	command string // the name of the program
	// repository is the one that the manifests name.
	repository string
	index      v1.ImageIndex
	digest     v1.Hash // of index
}

// commands are the programs that have an image. The controller is the first.
var commands = []string{"controller", "webhook"}

func packageOf(command string) string { return module + "/cmd/" + command }

// makeImages builds the images, and writes their SBOMs to dist/.
func (r *release) makeImages(ctx context.Context) error {
	for _, command := range commands {
		made, err := r.makeImage(ctx, command)
		if err != nil {
			return err
		}
		r.images = append(r.images, made)
	}
	return nil
}

func (r *release) makeImage(ctx context.Context, command string) (made image, err error) {
	made = image{command: command, repository: r.repositoryOf(command)}
	sboms, err := os.MkdirTemp(dist, "sbom-")
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(sboms)) }()
	if made.index, err = r.buildImage(ctx, command, sboms); err != nil {
		return made, err
	}
	if made.digest, err = made.index.Digest(); err != nil {
		return made, err
	}
	return made, keepSBOMs(command, sboms)
}

// buildImage builds a program with ko for all platforms, and writes an SBOM for each
// platform to sbomDir.
func (r *release) buildImage(ctx context.Context, command, sbomDir string) (v1.ImageIndex, error) {
	base, err := baseImage()
	if err != nil {
		return nil, err
	}
	ref, err := name.ParseReference(baseName)
	if err != nil {
		return nil, err
	}
	ko, err := moduleVersion(koModule)
	if err != nil {
		return nil, err
	}
	options := []build.Option{
		build.WithBaseImages(func(context.Context, string) (name.Reference, build.Result, error) { return ref, base, nil }),
		build.WithCreationTime(v1.Time{Time: r.source.time}),
		build.WithTrimpath(true),
		build.WithLdflags(r.linkerFlags()),
		build.WithSPDX(ko),
		build.WithSBOMDir(sbomDir),
		build.WithJobs(1),
	}
	names := make([]string, 0, len(platforms))
	for _, platform := range platforms {
		names = append(names, platform.String())
	}
	options = append(options, build.WithPlatforms(names...))
	for key, value := range r.imageAnnotations() {
		options = append(options, build.WithAnnotation(key, value), build.WithLabel(key, value))
	}
	builder, err := build.NewGo(ctx, "", options...)
	if err != nil {
		return nil, err
	}
	result, err := builder.Build(ctx, build.StrictScheme+packageOf(command))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", packageOf(command), err)
	}
	index, ok := result.(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("ko has built a %T, expected an index of images", result)
	}
	return index, nil
}

func (r *release) imageAnnotations() map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":    "Trusted Resources for Tekton Chains",
		"org.opencontainers.image.version":  r.version,
		"org.opencontainers.image.revision": r.source.commit,
		"org.opencontainers.image.source":   "https://" + module,
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
}

// sbomFile returns the name of the file in dist/ with the SBOM of an image for a
// platform.
func sbomFile(command string, platform v1.Platform) string {
	return fmt.Sprintf("%s-%s-%s.spdx.json", command, platform.OS, platform.Architecture)
}

// keepSBOMs moves the SBOMs that ko has written to dist/.
func keepSBOMs(command, sbomDir string) error {
	for _, platform := range platforms {
		from := filepath.Join(sbomDir, sbomFile(command, platform))
		if err := os.Rename(from, filepath.Join(dist, sbomFile(command, platform))); err != nil {
			return fmt.Errorf("the SBOM that ko should have written: %w", err)
		}
	}
	return nil
}
