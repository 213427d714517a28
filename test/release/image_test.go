// SPDX-License-Identifier: Apache-2.0

//go:build release

package release

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const (
	programFile      = "ko-app/controller"
	certificatesFile = "etc/ssl/certs/ca-certificates.crt"
)

// One static program, certificates, the names of two users, and nothing else: no shell,
// no package manager, no library.
func TestImage_HasOneStaticProgram(t *testing.T) {
	machines := map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64}
	images := platformImages(t)
	if len(images) != len(machines) {
		t.Errorf("%d platforms, want %d", len(images), len(machines))
	}
	for _, image := range images {
		t.Run(image.platform, func(t *testing.T) {
			content := contentOf(t, image.image)
			paths := slices.Sorted(maps.Keys(content))
			if want := []string{"etc/group", "etc/passwd", certificatesFile, programFile}; !slices.Equal(paths, want) {
				t.Errorf("the image has %v, want %v", paths, want)
			}
			expectStatic(t, content[programFile], machines[image.platform])
			expectCertificates(t, content[certificatesFile])
			t.Logf("%s: %.1f MB compressed, program %.1f MB", image.platform, float64(compressed(t, image.image))/1e6, float64(len(content[programFile]))/1e6)
		})
	}
}

func TestImage_DoesNotRunAsRoot(t *testing.T) {
	for _, image := range platformImages(t) {
		config, err := image.image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		// The kubelet refuses runAsNonRoot for the name of a user.
		if user, err := strconv.Atoi(config.Config.User); err != nil || user == 0 {
			t.Errorf("%s: the user is %q, want a number other than 0", image.platform, config.Config.User)
		}
		if want := []string{"/" + programFile}; !slices.Equal(config.Config.Entrypoint, want) {
			t.Errorf("%s: the entrypoint is %v, want %v", image.platform, config.Config.Entrypoint, want)
		}
		if got := config.Config.Labels["org.opencontainers.image.revision"]; got != head(t) {
			t.Errorf("%s: the revision is %q, want %s", image.platform, got, head(t))
		}
	}
}

// platformImage is the image for one platform.
type platformImage struct {
	platform string
	ref      name.Digest
	image    v1.Image
}

func platformImages(t *testing.T) []platformImage {
	t.Helper()
	index, err := remote.Index(made.image)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := make([]platformImage, 0, len(manifest.Manifests))
	for _, entry := range manifest.Manifests {
		image, err := index.Image(entry.Digest)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, platformImage{entry.Platform.String(), made.image.Digest(entry.Digest.String()), image})
	}
	return images
}

// contentOf returns the files of an image. Everything but files and directories is an
// error: a link could lead out of the image, a device needs rights.
func contentOf(t *testing.T, image v1.Image) map[string][]byte {
	t.Helper()
	flattened := mutate.Extract(image)
	defer func() { _ = flattened.Close() }()
	files := map[string][]byte{}
	for reader := tar.NewReader(flattened); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Mode&0o6022 != 0 {
			t.Errorf("%s has mode %o: setuid, setgid or writable for others", header.Name, header.Mode)
		}
		switch header.Typeflag {
		case tar.TypeDir:
		case tar.TypeReg:
			if files[strings.TrimPrefix(header.Name, "/")], err = io.ReadAll(reader); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s is of type %q", header.Name, header.Typeflag)
		}
	}
}

func expectStatic(t *testing.T, program []byte, machine elf.Machine) {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if file.Machine != machine {
		t.Errorf("the program is for %s, want %s", file.Machine, machine)
	}
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("the program needs the libraries %v (%v)", libraries, err)
	}
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("the program needs a dynamic linker")
		}
	}
}

func expectCertificates(t *testing.T, content []byte) {
	t.Helper()
	found := 0
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !certificate.IsCA {
			t.Errorf("%s is no certificate authority", certificate.Subject)
		}
		found++
	}
	const few = 100
	if found < few {
		t.Errorf("%d certificate authorities, want at least %d", found, few)
	}
}

func compressed(t *testing.T, image v1.Image) int64 {
	t.Helper()
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	size := manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size
}

// head returns the commit from which the release was made.
func head(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "-C", made.first, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
