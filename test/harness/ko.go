// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ko builds images from Go packages, as docs/install.md says.
var ko = tool{name: "ko", module: "github.com/google/ko", version: "v0.19.1"}

// KoEnv returns the environment with which ko pushes to the registry of the cluster, and
// uses the base image in it.
func (c *Cluster) KoEnv() ([]string, error) {
	registry, err := c.Registry()
	if err != nil {
		return nil, err
	}
	return []string{
		"KO_DOCKER_REPO=" + registry + "/ko",
		"KO_DEFAULTBASEIMAGE=" + registry + "/localcluster/base:latest",
		"KUBECONFIG=" + c.Kubeconfig(),
	}, nil
}

// KoResolve builds the images of the manifests in a directory of the Go module in
// moduleDir, pushes them to the registry of the cluster, and returns the manifests with
// references to these images.
func (c *Cluster) KoResolve(ctx context.Context, moduleDir string, manifests ...string) ([]byte, error) {
	environment, err := c.KoEnv()
	if err != nil {
		return nil, err
	}
	args := []string{"resolve"}
	for _, manifest := range manifests {
		args = append(args, "-f", manifest)
	}
	cmd := exec.CommandContext(ctx, ko.path(), args...)
	cmd.Dir = moduleDir
	// The configuration of another module names a base image in a registry.
	noConfig := filepath.Join(c.Dir, "ko.yaml")
	if err := os.WriteFile(noConfig, nil, 0o600); err != nil {
		return nil, err
	}
	cmd.Env = append(append(os.Environ(), "KO_CONFIG_PATH="+noConfig), environment...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w: %s", cmd, moduleDir, err, stderr.String())
	}
	return out, nil
}
