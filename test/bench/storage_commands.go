// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/trusted-resources/chains-extension/test/harness"
)

const cosignPassword = "bench"

// commandMethod returns the method of users who do not have this project: "tkn
// bundle push" and "cosign sign". It builds the programs that are missing.
func commandMethod(ctx context.Context, dir string, count int, out io.Writer) (method, error) {
	tkn, err := harness.BuildTkn(ctx, out)
	if err != nil {
		return method{}, err
	}
	if err := harness.BuildCosigns(ctx, out); err != nil {
		return method{}, err
	}
	cosign := harness.Cosigns[len(harness.Cosigns)-1] // the newest
	key, _, err := cosign.GenerateKeyPair(ctx, dir, cosignPassword)
	open := func(_ context.Context, prefix string, samples samples) (storer, error) {
		return commandStore{tkn, cosign, key, dir, prefix}, writeManifests(dir, samples)
	}
	return method{"tkn + cosign", []int{1, 8}, count, open}, err
}

// commandStore runs two processes for each resource.
type commandStore struct {
	tkn    harness.Tkn
	cosign harness.Cosign
	key    string // path of the private key
	dir    string // has the manifests
	prefix string
}

func (c commandStore) store(ctx context.Context, s sample) error {
	tag := c.prefix + "/" + s.task.Namespace + ":" + s.task.Name
	pushed, err := c.tkn.PushBundle(ctx, tag, filepath.Join(c.dir, s.file()))
	if err != nil {
		return err
	}
	image, err := name.NewDigest(pushed)
	if err != nil {
		return err
	}
	return c.cosign.SignImage(ctx, c.key, cosignPassword, image)
}

func writeManifests(dir string, samples samples) error {
	for _, s := range samples.all() {
		manifest, err := harness.Manifest(s.task)
		if err := errors.Join(err, os.WriteFile(filepath.Join(dir, s.file()), manifest, 0o600)); err != nil {
			return err
		}
	}
	return nil
}
