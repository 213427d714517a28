// SPDX-License-Identifier: Apache-2.0

package images

import (
	"archive/tar"
	"context"
	"fmt"
	"os/exec"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Shell returns an image with a shell and the usual commands: all applets of a busybox that is linked statically.
func Shell(ctx context.Context, busybox string, repositories ...string) (Image, error) {
	list := exec.CommandContext(ctx, busybox, "--list")
	applets, err := list.Output()
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", list, err)
	}
	const binary = "bin/busybox"
	image := Image{
		files:        []file{temporary(), program(busybox, binary)},
		config:       v1.Config{Env: []string{"PATH=/bin"}, Entrypoint: []string{"/" + binary}},
		repositories: repositories,
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != path.Base(binary) {
			link := tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "/" + binary, Mode: 0o777}
			image.files = append(image.files, file{header: link})
		}
	}
	return image, nil
}
