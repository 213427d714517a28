// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// dist is the directory of the release, below the source. Git ignores it.
const dist = "dist"

// release is a release that is being made.
type release struct {
	options
	source source
	cosign cosign
	images []image
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
	staged, err := stage(ctx, r.images, r.version)
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
	if err := r.makeImages(ctx); err != nil {
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

// sign signs the images, the files and their provenance, if there is a key.
func (r *release) sign(ctx context.Context, staged *staging) error {
	if r.key == "" {
		fmt.Fprintln(os.Stderr, "release: not signed, because no --key is given")
		return nil
	}
	if err := r.cosign.writePublicKey(ctx, filepath.Join(dist, publicKeyFile)); err != nil {
		return err
	}
	for _, made := range r.images {
		if err := r.signImage(ctx, staged, made); err != nil {
			return err
		}
	}
	return r.signFiles(ctx)
}

// publish copies the images, with their signatures and attestations, to dist/ and to the
// repositories.
func (r *release) publish(ctx context.Context, staged *staging) error {
	for _, made := range r.images {
		if err := staged.copyToLayout(ctx, made, layoutOf(made.command), r.version); err != nil {
			return err
		}
		name := made.repository + "@" + made.digest.String()
		if r.repository == "" {
			fmt.Fprintf(os.Stderr, "release: %s is in %s only, because no --repository is given\n", name, layoutOf(made.command))
			continue
		}
		if err := staged.copyToRepository(ctx, made, r.version); err != nil {
			return fmt.Errorf("pushing to %s: %w", made.repository, err)
		}
		fmt.Fprintln(os.Stderr, "release: pushed", name)
	}
	return nil
}

// layoutOf returns the directory with the image of a program.
func layoutOf(command string) string {
	if command == commands[0] {
		return filepath.Join(dist, "image")
	}
	return filepath.Join(dist, "image-"+command)
}
