// SPDX-License-Identifier: Apache-2.0

// Package harness runs the local cluster for tests, benchmarks and the demo: it
// builds the binaries, starts the control plane, and runs the controller with the
// RBAC of config/. It also has the servers and tools around a cluster: registries, a
// proxy that injects faults, git, a transparency log, cosign, tkn and Vault.
package harness

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Binaries are the paths of the programs that a local cluster needs.
type Binaries struct {
	// Dir holds the binaries of the control plane, and kubectl.
	Dir string
	// LocalCluster is the program of test/localcluster.
	LocalCluster string
	// Controller is cmd/controller of this source tree.
	Controller string
	// Webhook is cmd/webhook of this source tree.
	Webhook string
	// Race says that Controller is built with the race detector.
	Race bool
	// Releases take the place of the releases in the go.mod of test/localcluster.
	Releases Releases
}

// Root returns the top directory of the source tree.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("the harness was built without file names (-trimpath)")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Build brings all binaries up to date and writes its progress to out. The first
// build takes about 15 minutes on two cores, later ones take seconds. With
// RaceVariable in the environment, the controller is a file of its own, built with
// the race detector.
func Build(ctx context.Context, out io.Writer) (Binaries, error) {
	if err := checkRaceVariable(); err != nil {
		return Binaries{}, err
	}
	b, err := buildLocalCluster(ctx, out)
	if err != nil {
		return b, err
	}
	b.Controller, b.Race = filepath.Join(b.Dir, "controller"), RaceEnabled()
	b.Webhook = filepath.Join(b.Dir, "webhook")
	buildController := []string{"build", "-C", Root()}
	if b.Race {
		b.Controller += "-race"
		buildController = append(buildController, "-race")
	}
	buildController = append(buildController, "-o", b.Controller, "./cmd/controller")
	steps := []*exec.Cmd{
		command(ctx, out, b.LocalCluster, "build", "--bin", b.Dir, "--module", localClusterModule()),
		command(ctx, out, "go", buildController...),
		command(ctx, out, "go", "build", "-C", Root(), "-o", b.Webhook, "./cmd/webhook"),
	}
	for _, step := range steps {
		if err := step.Run(); err != nil {
			return b, fmt.Errorf("%s: %w", step, err)
		}
	}
	return b, nil
}

// buildLocalCluster builds the program that starts clusters.
func buildLocalCluster(ctx context.Context, out io.Writer) (Binaries, error) {
	dir := filepath.Join(Root(), ".localcluster", "bin")
	b := Binaries{Dir: dir, LocalCluster: filepath.Join(dir, "localcluster")}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return b, err
	}
	build := command(ctx, out, "go", "build", "-C", localClusterModule(), "-o", b.LocalCluster, "./cmd/localcluster")
	if err := build.Run(); err != nil {
		return b, fmt.Errorf("%s: %w", build, err)
	}
	return b, nil
}

func localClusterModule() string { return filepath.Join(Root(), "test", "localcluster") }

// Kubectl returns the path of a kubectl of the cluster's own release.
func (b Binaries) Kubectl() string { return filepath.Join(b.Dir, "kubectl") }

func command(ctx context.Context, out io.Writer, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}
