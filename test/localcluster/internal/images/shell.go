// SPDX-License-Identifier: Apache-2.0

package images

import (
	"context"
	"fmt"
	"os/exec"
	"path"
	"strings"
)

// Shell returns an image with a shell and the usual commands: all applets of a busybox that is linked statically.
func Shell(ctx context.Context, busybox string, repositories ...string) (Image, error) {
	list := exec.CommandContext(ctx, busybox, "--list")
	applets, err := list.Output()
	if err != nil {
		return Image{}, fmt.Errorf("%s: %w", list, err)
	}
	image := Image{Program: busybox, Path: "bin/busybox", Repositories: repositories}
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != path.Base(image.Path) {
			image.Links = append(image.Links, "bin/"+applet)
		}
	}
	return image, nil
}
