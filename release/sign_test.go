// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Everything but the compilation: manifests, checksums, provenance, signatures by a real
// cosign, and a registry. The base image stands for the image of the controller.
func TestRelease_IsSignedBeforeItIsPushed(t *testing.T) {
	cosign := filepath.Join(sourceDir(t), ".localcluster", "bin", "cosign-v3")
	r, target := newTestRelease(t, cosign)
	if err := r.writeManifests(); err != nil {
		t.Fatal(err)
	}
	files, err := writeChecksums(dist)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.writeProvenance(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	staged, err := stage(t.Context(), r.images, r.version)
	if err != nil {
		t.Fatal(err)
	}
	defer staged.stop()
	if err := r.sign(t.Context(), staged); err != nil {
		t.Fatal(err)
	}
	if err := r.publish(t.Context(), staged); err != nil {
		t.Fatal(err)
	}
	manifest, err := r.images[0].index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image := target + "@" + r.images[0].digest.String()
	webhook := r.images[1].repository + "@" + r.images[1].digest.String()
	platform := target + "@" + manifest.Manifests[0].Digest.String()
	for _, check := range []struct {
		good bool
		args []string
	}{
		{true, []string{"verify", "--allow-http-registry", image}},
		{true, []string{"verify-attestation", "--type", "slsaprovenance1", "--allow-http-registry", image}},
		{false, []string{"verify-attestation", "--type", "spdxjson", "--allow-http-registry", image}}, // each platform has its own SBOM
		{true, []string{"verify", "--allow-http-registry", platform}},
		{true, []string{"verify", "--allow-http-registry", webhook}},
		{true, []string{"verify-attestation", "--type", "spdxjson", "--allow-http-registry", platform}},
		{true, []string{"verify-blob", "--bundle", "dist/release.yaml.sigstore.json", "dist/release.yaml"}},
		{false, []string{"verify-blob", "--bundle", "dist/release.yaml.sigstore.json", "dist/release-admission.yaml"}},
		{true, []string{"verify-blob-attestation", "--type", "slsaprovenance1", "--bundle", "dist/provenance.sigstore.json", "dist/release.yaml"}},
		{false, []string{"verify-blob-attestation", "--type", "slsaprovenance1", "--bundle", "dist/provenance.sigstore.json", "dist/cosign.pub"}},
	} {
		verify := exec.CommandContext(t.Context(), cosign, append(check.args, "--key", "dist/cosign.pub", "--insecure-ignore-tlog")...)
		if out, err := verify.CombinedOutput(); (err == nil) != check.good {
			t.Errorf("cosign %v: got %v, want success: %v: %s", check.args, err, check.good, out)
		}
	}
	for file, named := range map[string]string{"release.yaml": image, "release-webhook.yaml": webhook} {
		content, err := os.ReadFile(filepath.Join(dist, file))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(content), "image: "+named+"\n"); got != 1 {
			t.Errorf("%s names %s %d times, want once", file, named, got)
		}
	}
}

// newTestRelease returns a release in a directory of its own, with a new key, and the
// repository to which it is pushed.
func newTestRelease(t *testing.T, command string) (*release, string) {
	t.Helper()
	source := sourceDir(t)
	t.Chdir(t.TempDir())
	for _, dir := range []string{"config", "kustomize"} {
		if err := os.CopyFS(dir, os.DirFS(filepath.Join(source, dir))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dist, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, platform := range platforms {
		for _, command := range commands {
			if err := os.WriteFile(filepath.Join(dist, sbomFile(command, platform)), []byte(`{"spdxVersion":"SPDX-2.3"}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("COSIGN_PASSWORD", "test")
	if out, err := exec.CommandContext(t.Context(), command, "generate-key-pair").CombinedOutput(); err != nil {
		t.Fatalf("%s generate-key-pair: %v (make binaries builds cosign): %s", command, err, out)
	}
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/controller"
	r := newRelease(options{version: "v0.0.1", repository: repository, key: "cosign.key", builder: byHand, cosign: []string{command}})
	r.source.commit, r.source.time = strings.Repeat("0", 40), time.Unix(0, 0)
	for _, command := range commands {
		made := image{command: command, repository: r.repositoryOf(command)}
		var err error
		if made.index, err = baseImage(); err != nil {
			t.Fatal(err)
		}
		if made.digest, err = made.index.Digest(); err != nil {
			t.Fatal(err)
		}
		r.images = append(r.images, made)
	}
	return r, repository
}

// sourceDir returns the top directory of the source.
func sourceDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
