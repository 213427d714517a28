// SPDX-License-Identifier: Apache-2.0

//go:build release

package release

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	orasremote "oras.land/oras-go/v2/registry/remote"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// Each file verifies with its own signature and with the provenance of all files. A file
// with a changed byte verifies with neither.
func TestFiles_VerifyUnlessAByteIsChanged(t *testing.T) {
	for _, file := range append(files(t), "checksums.txt") {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			changed := withChangedByte(t, dist(file))
			for _, cosign := range harness.Cosigns {
				if cosign != newest() && file != "tkn-trust-linux-amd64" {
					continue // one file is enough to know that this release of cosign can
				}
				for path, good := range map[string]bool{dist(file): true, changed: false} {
					expectVerdict(t, good, verifyBlob(t, cosign, dist("cosign.pub"), file, path), cosign.Version, "verify-blob", path)
					expectVerdict(t, good, verifyProvenance(t, cosign, dist("cosign.pub"), path), cosign.Version, "verify-blob-attestation", path)
				}
			}
		})
	}
}

func TestFiles_AreRefusedWithAnotherKey(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := newest().GenerateKeyPair(t.Context(), dir, password); err != nil {
		t.Fatal(err)
	}
	const file = "checksums.txt"
	for _, cosign := range harness.Cosigns {
		other := filepath.Join(dir, "cosign.pub")
		expectVerdict(t, false, verifyBlob(t, cosign, other, file, dist(file)), cosign.Version, "verify-blob")
		expectVerdict(t, false, verifyProvenance(t, cosign, other, dist(file)), cosign.Version, "verify-blob-attestation")
	}
}

func TestImage_VerifiesUnlessChanged(t *testing.T) {
	changed := pushChanged(t)
	for _, cosign := range harness.Cosigns {
		expectVerdict(t, true, verifyImage(t, cosign, made.image), cosign.Version, "verify")
		expectVerdict(t, false, verifyImage(t, cosign, changed), cosign.Version, "verify a changed image")
		expectVerdict(t, true, verifyAttestation(t, cosign, made.image, "slsaprovenance1"), cosign.Version, "verify-attestation")
		expectVerdict(t, false, verifyAttestation(t, cosign, changed, "slsaprovenance1"), cosign.Version, "verify-attestation of a changed image")
		for _, image := range platformImages(t) {
			expectVerdict(t, true, verifyImage(t, cosign, image.ref), cosign.Version, "verify", image.platform)
			expectVerdict(t, true, verifyAttestation(t, cosign, image.ref, "slsaprovenance1"), cosign.Version, "provenance", image.platform)
			expectVerdict(t, true, verifyAttestation(t, cosign, image.ref, "spdxjson"), cosign.Version, "SBOM", image.platform)
		}
	}
}

// dist/image has everything that another registry needs.
func TestImageLayout_VerifiesFromAnotherRegistry(t *testing.T) {
	other, err := harness.StartRegistry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Stop() }()
	layout, err := oci.New(dist("image"))
	if err != nil {
		t.Fatal(err)
	}
	target, err := orasremote.NewRepository(other.Host() + "/mirror")
	if err != nil {
		t.Fatal(err)
	}
	target.PlainHTTP = true
	copied, err := oras.ExtendedCopy(t.Context(), layout, version, target, version, oras.DefaultExtendedCopyOptions)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := copied.Digest.String(), made.image.DigestStr(); got != want {
		t.Errorf("the layout has %s, the registry %s", got, want)
	}
	mirrored, err := name.NewDigest(other.Host() + "/mirror@" + copied.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, cosign := range harness.Cosigns {
		expectVerdict(t, true, verifyImage(t, cosign, mirrored), cosign.Version, "verify")
		expectVerdict(t, true, verifyAttestation(t, cosign, mirrored, "slsaprovenance1"), cosign.Version, "verify-attestation")
	}
}

// The signed statement is provenance.json, and says from what the release was made.
func TestProvenance_NamesTheSource(t *testing.T) {
	var bundle struct {
		DSSEEnvelope struct{ Payload string }
	}
	decode(t, dist("provenance.sigstore.json"), &bundle)
	payload, err := base64.StdEncoding.DecodeString(bundle.DSSEEnvelope.Payload)
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := os.ReadFile(dist("provenance.json"))
	if err != nil {
		t.Fatal(err)
	}
	if string(payload) != string(unsigned) {
		t.Error("the signed statement differs from provenance.json")
	}
	for _, want := range []string{`"gitCommit": "` + head(t) + `"`, `"version": "` + version + `"`, `"repository": "` + repository() + `"`, "github.com/google/ko@v", made.image.DigestStr()[len("sha256:"):]} {
		if !strings.Contains(string(payload), want) {
			t.Errorf("no %s in %s", want, payload)
		}
	}
}

// withoutLog are the flags with which both versions of cosign verify a signature with a
// key, without a transparency log. cosign v2 would download the trusted root of the public
// Sigstore, which a verification with a key does not use.
func withoutLog(t *testing.T, cosign harness.Cosign) []string {
	t.Helper()
	flags := []string{"--insecure-ignore-tlog"}
	if cosign.Major == "v2" {
		root := filepath.Join(t.TempDir(), "trusted-root.json")
		if err := os.WriteFile(root, []byte(harness.NoTrustedRoot), 0o600); err != nil {
			t.Fatal(err)
		}
		flags = append(flags, "--new-bundle-format", "--trusted-root", root)
	}
	return flags
}

func verifyBlob(t *testing.T, cosign harness.Cosign, key, file, path string) error {
	args := append([]string{"verify-blob", "--key", key, "--bundle", dist(file + ".sigstore.json")}, withoutLog(t, cosign)...)
	_, err := cosign.Run(t.Context(), append(args, path)...)
	return err
}

func verifyProvenance(t *testing.T, cosign harness.Cosign, key, path string) error {
	args := append([]string{"verify-blob-attestation", "--key", key, "--type", "slsaprovenance1", "--bundle", dist("provenance.sigstore.json")}, withoutLog(t, cosign)...)
	_, err := cosign.Run(t.Context(), append(args, path)...)
	return err
}

func verifyImage(t *testing.T, cosign harness.Cosign, image name.Digest) error {
	args := append([]string{"verify", "--key", dist("cosign.pub"), "--allow-http-registry"}, withoutLog(t, cosign)...)
	_, err := cosign.Run(t.Context(), append(args, image.Name())...)
	return err
}

func verifyAttestation(t *testing.T, cosign harness.Cosign, image name.Digest, predicateType string) error {
	args := append([]string{"verify-attestation", "--key", dist("cosign.pub"), "--type", predicateType, "--allow-http-registry"}, withoutLog(t, cosign)...)
	_, err := cosign.Run(t.Context(), append(args, image.Name())...)
	return err
}

func expectVerdict(t *testing.T, good bool, err error, what ...string) {
	t.Helper()
	if (err == nil) != good {
		t.Errorf("%s: got %v, want success: %v", strings.Join(what, " "), err, good)
	}
}

// withChangedByte returns a copy of a file with one byte changed, under the same name.
func withChangedByte(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	changed := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(changed, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return changed
}

// pushChanged pushes the image with another annotation and returns its reference.
func pushChanged(t *testing.T) name.Digest {
	t.Helper()
	index, err := remote.Index(made.image)
	if err != nil {
		t.Fatal(err)
	}
	changed := mutate.Annotations(index, map[string]string{"org.opencontainers.image.version": "v0.0.2"}).(v1.ImageIndex)
	digest, err := changed.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref := made.image.Digest(digest.String())
	if err := remote.WriteIndex(ref, changed); err != nil {
		t.Fatal(err)
	}
	return ref
}

func decode(t *testing.T, file string, into any) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
