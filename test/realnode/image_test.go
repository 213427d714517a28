// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// certificatesFile has the certificates of the base image.
const certificatesFile = "etc/ssl/certs/ca-certificates.crt"

// The image has one program, which needs no library, and the certificates with which the
// program verifies registries and KMS. Nothing else can be executed, and nothing runs as
// root. The certificates are those of the tests' base image.
func TestImage_HasOneStaticProgramAndCertificates(t *testing.T) {
	e := install(t)
	image := e.image()
	config, err := image.ConfigFile()
	e.check(err)
	if user := config.Config.User; user == "" || user == "0" || user == "root" {
		t.Errorf("the image runs as user %q, want one that is not root", user)
	}
	var programs []string
	certificates := 0
	for file, content := range e.files(image) {
		switch {
		case file == certificatesFile:
			certificates = bytes.Count(content.data, []byte("BEGIN CERTIFICATE"))
		case content.mode&0o111 != 0:
			programs = append(programs, file)
			e.checkStatic(file, content.data)
		}
	}
	if len(programs) != 1 || "/"+programs[0] != config.Config.Entrypoint[0] {
		t.Errorf("programs %q, entrypoint %q, want one program, the entrypoint", programs, config.Config.Entrypoint)
	}
	if certificates < 50 {
		t.Errorf("%s has %d certificates", certificatesFile, certificates)
	}
	e.reportSize(image)
}

func (e env) image() v1.Image {
	e.t.Helper()
	ref, err := name.ParseReference(e.pods()[0].Spec.Containers[0].Image)
	e.check(err)
	if _, byDigest := ref.(name.Digest); !byDigest {
		e.t.Errorf("the Pod runs %s, want a reference by digest", ref)
	}
	image, err := remote.Image(ref, remote.WithContext(e.t.Context()))
	e.check(err)
	return image
}

type file struct {
	mode int64
	data []byte
}

// files returns the files of the image that are no directories, by name.
func (e env) files(image v1.Image) map[string]file {
	e.t.Helper()
	content := mutate.Extract(image)
	defer func() { _ = content.Close() }()
	found := map[string]file{}
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		e.check(err)
		if header.Typeflag == tar.TypeDir {
			continue
		}
		data, err := io.ReadAll(r)
		e.check(err)
		found[strings.TrimPrefix(path.Clean(header.Name), "/")] = file{mode: header.Mode, data: data}
	}
}

func (e env) checkStatic(name string, content []byte) {
	e.t.Helper()
	program, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		e.t.Errorf("%s can be executed and is no program: %v", name, err)
		return
	}
	if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		e.t.Errorf("%s needs a dynamic linker", name)
	}
}

func (e env) reportSize(image v1.Image) {
	e.t.Helper()
	layers, err := image.Layers()
	e.check(err)
	var compressed int64
	for _, layer := range layers {
		size, err := layer.Size()
		e.check(err)
		compressed += size
	}
	var unpacked int
	for _, content := range e.files(image) {
		unpacked += len(content.data)
	}
	e.t.Logf("image size: %.1f MB compressed, %.1f MB unpacked", float64(compressed)/1e6, float64(unpacked)/1e6)
}
