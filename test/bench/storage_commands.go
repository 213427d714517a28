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

// commandWay is what users do without us: tkn bundle push and cosign sign. It
// makes the programs that are missing.
func commandWay(ctx context.Context, dir string, count int, out io.Writer) (way, error) {
	tkn, err := harness.BuildTkn(ctx, out)
	if err != nil {
		return way{}, err
	}
	if err := harness.BuildCosigns(ctx, out); err != nil {
		return way{}, err
	}
	cosign := harness.Cosigns[len(harness.Cosigns)-1] // the newest
	key, _, err := cosign.GenerateKeyPair(ctx, dir, cosignPassword)
	open := func(_ context.Context, prefix string, samples samples) (storer, error) {
		return commands{tkn, cosign, key, dir, prefix}, writeManifests(dir, samples)
	}
	return way{"tkn + cosign", []int{1, 8}, count, open}, err
}

// commands runs two processes for each resource.
type commands struct {
	tkn    harness.Tkn
	cosign harness.Cosign
	key    string // a file
	dir    string // of the manifests
	prefix string
}

func (c commands) store(ctx context.Context, s sample) error {
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
