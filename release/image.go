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

const controllerPackage = module + "/cmd/controller"

// makeImage builds the image, and writes its SBOMs to dist/.
func (r *release) makeImage(ctx context.Context) (err error) {
	sboms, err := os.MkdirTemp(dist, "sbom-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(sboms)) }()
	if r.index, err = r.buildImage(ctx, sboms); err != nil {
		return err
	}
	if r.digest, err = r.index.Digest(); err != nil {
		return err
	}
	return keepSBOMs(sboms)
}

// buildImage builds the controller with ko for all platforms, and writes an SBOM for each
// platform to sbomDir.
func (r *release) buildImage(ctx context.Context, sbomDir string) (v1.ImageIndex, error) {
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
	result, err := builder.Build(ctx, build.StrictScheme+controllerPackage)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", controllerPackage, err)
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

// sbomFile returns the name of the file in dist/ with the SBOM of the image for a
// platform.
func sbomFile(platform v1.Platform) string {
	return fmt.Sprintf("controller-%s-%s.spdx.json", platform.OS, platform.Architecture)
}

// keepSBOMs moves the SBOMs that ko has written to dist/.
func keepSBOMs(sbomDir string) error {
	for _, platform := range platforms {
		from := filepath.Join(sbomDir, sbomFile(platform))
		if err := os.Rename(from, filepath.Join(dist, sbomFile(platform))); err != nil {
			return fmt.Errorf("the SBOM that ko should have written: %w", err)
		}
	}
	return nil
}
