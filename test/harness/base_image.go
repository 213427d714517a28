// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// baseRepository has the base image of ko.
const baseRepository = "base/static"

// Files of the base image.
const (
	CertificatesFile = "etc/ssl/certs/ca-certificates.crt"
	passwordFile     = "etc/passwd"
)

// PushBaseImage pushes an image for programs that are linked statically, like ko's default
// base image, which needs the internet: certificates of this machine, a user that is not
// root, no shell.
func (c *Cluster) PushBaseImage(ctx context.Context) error {
	registry, err := c.Registry()
	if err != nil {
		return err
	}
	image, err := baseImage()
	if err != nil {
		return err
	}
	ref, err := name.ParseReference(registry + "/" + baseRepository + ":latest")
	if err != nil {
		return err
	}
	return remote.Write(ref, image, remote.WithContext(ctx))
}

func baseImage() (v1.Image, error) {
	certificates, err := os.ReadFile("/" + CertificatesFile)
	if err != nil {
		return nil, err
	}
	archive, err := tarArchive(map[string][]byte{
		CertificatesFile: certificates,
		passwordFile:     []byte("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"),
	})
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.User = "65532"
	config.Config.Env = []string{"SSL_CERT_FILE=/" + CertificatesFile}
	return mutate.ConfigFile(image, config)
}

func tarArchive(files map[string][]byte) ([]byte, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for file, content := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}
