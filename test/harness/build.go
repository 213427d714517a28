// Package harness drives the local cluster for tests, benchmarks and the demo:
// it builds what is needed, starts the control plane and runs the controller
// against it, under the RBAC that is shipped.
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

// Binaries are the paths of all programs that a local cluster takes.
type Binaries struct {
	// Dir holds the binaries of the control plane, kubectl among them.
	Dir string
	// LocalCluster is the program of test/localcluster.
	LocalCluster string
	// Controller is cmd/controller of this source tree.
	Controller string
}

// Root is the top of the source tree.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("the harness was built without file names (-trimpath)")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Build brings all binaries up to date and writes its progress to out. The
// first time it takes about 15 minutes on two cores, then seconds.
func Build(ctx context.Context, out io.Writer) (Binaries, error) {
	dir := filepath.Join(Root(), ".localcluster", "bin")
	b := Binaries{
		Dir:          dir,
		LocalCluster: filepath.Join(dir, "localcluster"),
		Controller:   filepath.Join(dir, "controller"),
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return b, err
	}
	module := filepath.Join(Root(), "test", "localcluster")
	steps := []*exec.Cmd{
		command(ctx, out, "go", "build", "-C", module, "-o", b.LocalCluster, "./cmd/localcluster"),
		command(ctx, out, b.LocalCluster, "build", "--bin", dir, "--module", module),
		command(ctx, out, "go", "build", "-C", Root(), "-o", b.Controller, "./cmd/controller"),
	}
	for _, step := range steps {
		if err := step.Run(); err != nil {
			return b, fmt.Errorf("%s: %w", step, err)
		}
	}
	return b, nil
}

// Kubectl is the path of a kubectl of the cluster's own release.
func (b Binaries) Kubectl() string { return filepath.Join(b.Dir, "kubectl") }

func command(ctx context.Context, out io.Writer, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}
