// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programPlatforms are those of tkn-trust.
var programPlatforms = []string{
	"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64",
}

// reproducible are the settings of the go command with which a build depends on nothing
// but the source and the release of Go. The version comes from the linker flags.
var reproducible = map[string]string{
	"CGO_ENABLED": "0",
	"GOFLAGS":     "-trimpath -mod=readonly -buildvcs=false",
	"GOWORK":      "off",
	"GOAMD64":     "v1",
	"GOARM64":     "v8.0",
}

// setEnvironment gives the settings to all processes that this one starts. ko has no
// other way to receive them.
func setEnvironment() error {
	for key, value := range reproducible {
		if err := os.Setenv(key, value); err != nil {
			return err
		}
	}
	return nil
}

// linkerFlags write the version into a program, and leave out symbols and debugging
// information.
func (r *release) linkerFlags() []string {
	return []string{"-s", "-w", "-X", module + "/pkg/version.released=" + r.version}
}

// buildPrograms builds tkn-trust for all platforms.
func (r *release) buildPrograms(ctx context.Context) error {
	for _, platform := range programPlatforms {
		goos, goarch, _ := strings.Cut(platform, "/")
		file := filepath.Join(dist, programFile(goos, goarch))
		build := exec.CommandContext(ctx, "go", "build", "-ldflags", strings.Join(r.linkerFlags(), " "), "-o", file, "./cmd/tkn-trust")
		build.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch)
		build.Stderr = os.Stderr
		fmt.Fprintln(os.Stderr, "release: building", file)
		if err := build.Run(); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func programFile(goos, goarch string) string {
	name := fmt.Sprintf("tkn-trust-%s-%s", goos, goarch)
	if goos == "windows" {
		return name + ".exe"
	}
	return name
}
