// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// CheckReal installs the Debian packages of a real node that are missing, if it may, and
// returns an error if this machine cannot run a real node.
func CheckReal(ctx context.Context, out io.Writer) error {
	b, err := buildLocalCluster(ctx, out)
	if err != nil {
		return err
	}
	if err := b.installPackages(ctx, out); err != nil {
		return err
	}
	preflight := exec.CommandContext(ctx, b.LocalCluster, "preflight")
	if answer, err := preflight.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", preflight, err, answer)
	}
	return nil
}

// BuildReal is Build for a cluster whose nodes run containers. It installs the Debian
// packages that are missing, if it may, and also builds ko and cosign.
func BuildReal(ctx context.Context, out io.Writer) (Binaries, error) {
	b, err := Build(ctx, out)
	if err != nil {
		return b, err
	}
	if err := b.installPackages(ctx, out); err != nil {
		return b, err
	}
	build := command(ctx, out, b.LocalCluster, "build", "--node", "real", "--bin", b.Dir, "--module", localClusterModule())
	if err := build.Run(); err != nil {
		return b, fmt.Errorf("%s: %w", build, err)
	}
	return b, errors.Join(ko.install(ctx, out), BuildCosigns(ctx, out))
}

// installPackages installs the Debian packages of a real node that are missing. It
// needs root and apt-get.
func (b Binaries) installPackages(ctx context.Context, out io.Writer) error {
	list := exec.CommandContext(ctx, b.LocalCluster, "packages")
	answer, err := list.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	missing := strings.Fields(string(answer))
	if len(missing) == 0 {
		return nil
	}
	args := append([]string{"install", "--yes", "--no-install-recommends"}, missing...)
	install := command(ctx, out, "apt-get", args...)
	install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if os.Geteuid() != 0 || install.Err != nil {
		return fmt.Errorf("a real node needs packages that are not installed: run as root `apt-get install --no-install-recommends %s`", strings.Join(missing, " "))
	}
	if err := install.Run(); err != nil {
		return fmt.Errorf("%s: %w; if a package is not found, run apt-get update", install, err)
	}
	return nil
}

// RunReal starts a cluster in dir whose nodes run containers. It applies none of the
// manifests of config/. The cluster ends with Stop, or when this process ends; if the
// cluster was killed, its containers end at the next RunReal in dir.
func RunReal(ctx context.Context, b Binaries, dir string, nodes int, out io.Writer) (*Cluster, error) {
	return runCluster(ctx, b, dir, out, append(clusterFlags(b, dir), "--node", "real", "--nodes", strconv.Itoa(nodes)))
}

// Registry returns the address of the registry of a cluster whose nodes run containers.
// Each node pulls the images of all registries from there.
func (c *Cluster) Registry() (string, error) {
	content, err := os.ReadFile(filepath.Join(c.Dir, "state.json"))
	if err != nil {
		return "", err
	}
	var state struct{ Ports map[string]int }
	if err := json.Unmarshal(content, &state); err != nil {
		return "", err
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(state.Ports["registry"])), nil
}
