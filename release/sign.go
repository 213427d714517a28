// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	bundleSuffix     = ".sigstore.json"
	provenanceBundle = "provenance" + bundleSuffix
)

// signImage signs an image for all platforms together and for each, and attaches the
// provenance and the SBOMs.
func (r *release) signImage(ctx context.Context, staged *staging, made image) error {
	predicate, err := predicateFile()
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(predicate) }()
	manifest, err := made.index.IndexManifest()
	if err != nil {
		return err
	}
	digests := []v1.Hash{made.digest}
	for _, image := range manifest.Manifests {
		digests = append(digests, image.Digest)
		sbom := filepath.Join(dist, sbomFile(made.command, *image.Platform))
		if err := r.cosign.attest(ctx, staged.reference(made, image.Digest), "spdxjson", sbom); err != nil {
			return err
		}
	}
	for _, digest := range digests {
		if err := r.cosign.sign(ctx, staged.reference(made, digest)); err != nil {
			return err
		}
		if err := r.cosign.attest(ctx, staged.reference(made, digest), "slsaprovenance1", predicate); err != nil {
			return err
		}
	}
	return nil
}

// predicateFile writes the predicate of the provenance to a temporary file. cosign makes
// the statement about an image itself.
func predicateFile() (string, error) {
	content, err := os.ReadFile(filepath.Join(dist, statementFile))
	if err != nil {
		return "", err
	}
	var statement struct{ Predicate json.RawMessage }
	if err := json.Unmarshal(content, &statement); err != nil {
		return "", err
	}
	file, err := os.CreateTemp("", "predicate-*.json")
	if err != nil {
		return "", err
	}
	if _, err := file.Write(statement.Predicate); err != nil {
		return "", err
	}
	return file.Name(), file.Close()
}

// signFiles signs each file of dist/, and the provenance of all of them. Each signature
// is a file of its own, beside the signed file.
func (r *release) signFiles(ctx context.Context) error {
	entries, err := os.ReadDir(dist)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == publicKeyFile || entry.Name() == statementFile {
			continue
		}
		file := filepath.Join(dist, entry.Name())
		if err := r.cosign.signBlob(ctx, file, file+bundleSuffix); err != nil {
			return err
		}
	}
	return r.cosign.attestBlob(ctx, filepath.Join(dist, statementFile), filepath.Join(dist, provenanceBundle))
}
