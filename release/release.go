// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// dist is the directory of the release, below the source. Git ignores it.
const dist = "dist"

// release is a release that is being made.
type release struct {
	options
	source source
	cosign cosign
	index  v1.ImageIndex
	digest v1.Hash // of index
}

func newRelease(o options) *release {
	return &release{options: o, cosign: cosign{command: o.cosign, key: o.key, environment: os.Environ()}}
}

// make makes all files. Nothing is pushed before every file exists and is signed.
func (r *release) make(ctx context.Context) (err error) {
	if r.source, err = readSource(ctx); err != nil {
		return err
	}
	if err := setEnvironment(); err != nil {
		return err
	}
	if err := os.RemoveAll(dist); err != nil {
		return err
	}
	if err := os.Mkdir(dist, 0o755); err != nil {
		return err
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	staged, err := stage(ctx, r.index, r.version)
	if err != nil {
		return err
	}
	defer staged.stop()
	if err := r.sign(ctx, staged); err != nil {
		return err
	}
	return r.publish(ctx, staged)
}

// build makes everything that is the same in each run.
func (r *release) build(ctx context.Context) error {
	if err := r.makeImage(ctx); err != nil {
		return err
	}
	if err := r.buildPrograms(ctx); err != nil {
		return err
	}
	if err := r.writeManifests(); err != nil {
		return err
	}
	files, err := writeChecksums(dist)
	if err != nil {
		return err
	}
	return r.writeProvenance(ctx, files)
}

// sign signs the image, the files and their provenance, if there is a key.
func (r *release) sign(ctx context.Context, staged *staging) error {
	if r.key == "" {
		fmt.Fprintln(os.Stderr, "release: not signed, because no --key is given")
		return nil
	}
	if err := r.cosign.writePublicKey(ctx, filepath.Join(dist, publicKeyFile)); err != nil {
		return err
	}
	if err := r.signImage(ctx, staged); err != nil {
		return err
	}
	return r.signFiles(ctx)
}

// publish copies the image, with its signatures and attestations, to dist/ and to the
// repository.
func (r *release) publish(ctx context.Context, staged *staging) error {
	if err := staged.copyToLayout(ctx, filepath.Join(dist, "image"), r.version); err != nil {
		return err
	}
	image := r.imageRepository() + "@" + r.digest.String()
	if r.repository == "" {
		fmt.Fprintf(os.Stderr, "release: %s is in %s only, because no --repository is given\n", image, filepath.Join(dist, "image"))
		return nil
	}
	if err := staged.copyToRepository(ctx, r.repository, r.version); err != nil {
		return fmt.Errorf("pushing to %s: %w", r.repository, err)
	}
	fmt.Fprintln(os.Stderr, "release: pushed", image)
	return nil
}
