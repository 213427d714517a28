// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of localcluster: one file and one constructor for each command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cluster"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/state"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/supervisor"
)

// Main runs a command line and returns the exit code: 0, or 1 for any failure.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd := newRoot()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintf(stderr, "localcluster: %v\n", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "localcluster",
		Short: "Run a real Kubernetes control plane with Tekton on one machine",
		Long: `Localcluster runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kwok (instead of a
kubelet) and Tekton Pipelines as processes on one Linux machine, without root and without a container
engine. A cluster writes only into its directory, so several clusters can run at the same time.

With --node real, a kubelet and containerd run the pods. This needs root and Debian packages.`,
		Example: `  localcluster build
  localcluster up --dir /tmp/lc
  export KUBECONFIG=/tmp/lc/kubeconfig
  localcluster apply --dir /tmp/lc task.yaml
  localcluster kill kube-apiserver --dir /tmp/lc
  localcluster start kube-apiserver --dir /tmp/lc
  localcluster down --dir /tmp/lc`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(
		newBuild(), newRun(), newUp(), newDown(), newStatus(),
		newAction("start", "Start a part and wait until it is healthy"),
		newAction("stop", "Stop a part (SIGTERM) and wait until it has ended"),
		newAction("kill", "Kill a part (SIGKILL) and wait until it is gone"),
		newAction("restart", "Stop a part and start it again"),
		newAdd(), newRemove(), newKubeconfig(), newApply(), newPackages(), newPreflight(), newRegistry(), newUpgrade(),
	)
	return cmd
}

// dirFlag adds the flag with the directory of the cluster.
func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "directory of the cluster (required)")
	if err := cmd.MarkFlagRequired("dir"); err != nil {
		panic(err) // cannot happen: the flag exists
	}
}

// nodeFlag is the kind of the nodes.
type nodeFlag struct {
	name string
	kind cluster.NodeKind
}

func (f *nodeFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.name, "node", cluster.NodeKinds[0].Name,
		"kwok (no container runs), or real (kubelet, containerd and runc; needs root and Debian packages)")
}

func (f *nodeFlag) complete() (err error) {
	f.kind, err = cluster.FindNodeKind(f.name)
	return err
}

func (f *nodeFlag) binaries() []build.Binary {
	return slices.Concat(build.ControlPlane, f.kind.Binaries)
}

// buildFlags are the directories of the Go module and of the binaries, the kind of the nodes,
// and releases that are built beside.
type buildFlags struct {
	module, bin string
	node        nodeFlag
	releaseFlags
}

func (f *buildFlags) add(cmd *cobra.Command) {
	f.node.add(cmd)
	f.releaseFlags.add(cmd)
	cmd.Flags().StringVar(&f.module, "module", "", "directory of the localcluster Go module (default: searched from the working directory and from the binary)")
	cmd.Flags().StringVar(&f.bin, "bin", "", "directory of the binaries (default: .localcluster/bin in the repository)")
}

// complete fills in the defaults and makes both paths absolute.
func (f *buildFlags) complete() (err error) {
	if err := f.node.complete(); err != nil {
		return err
	}
	if real := f.node.name != cluster.NodeKinds[0].Name; real && f.tekton != "" {
		return fmt.Errorf("--tekton-release %s with --node %s: the programs in Tekton's containers are those of go.mod; use --node %s",
			f.tekton, f.node.name, cluster.NodeKinds[0].Name)
	}
	if f.module == "" {
		if f.module, err = build.FindModule(); err != nil {
			return err
		}
	}
	if f.module, err = filepath.Abs(f.module); err != nil {
		return err
	}
	if f.bin == "" {
		f.bin = build.DefaultBin(f.module)
	}
	f.bin, err = filepath.Abs(f.bin)
	return err
}

// requireBinaries returns an error if binaries are missing or were built from other versions.
func (f *buildFlags) requireBinaries() error {
	missing, err := build.Missing(f.module, f.bin, f.node.binaries())
	if err != nil {
		return err
	}
	missing = append(missing, f.missing(f.bin)...)
	if len(missing) > 0 {
		return fmt.Errorf("the binaries %[2]q in %[1]s are missing or outdated: run `localcluster build --node %[3]s` first", f.bin, missing, f.node.name)
	}
	return nil
}

// readState returns the state of the running cluster in dir.
func readState(dir string) (state.State, error) {
	s, err := state.Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		pid, lockErr := state.Supervisor(dir)
		switch {
		case lockErr != nil:
			return s, lockErr
		case pid != 0:
			return s, fmt.Errorf("the cluster in %s (pid %d) is starting or stopping: try again when it is ready", dir, pid)
		default:
			return s, fmt.Errorf("no cluster runs in %s: start one with `localcluster up --dir %s`", dir, dir)
		}
	}
	if err != nil {
		return s, err
	}
	// A supervisor that was killed has not removed its state file.
	if pid, err := state.Supervisor(dir); err != nil {
		return s, err
	} else if pid == 0 {
		return s, fmt.Errorf("the cluster in %s has died (it was pid %d): start it again with `localcluster up --dir %s`", dir, s.PID, dir)
	}
	return s, nil
}

func connect(dir string) (supervisor.Client, error) {
	s, err := readState(dir)
	return supervisor.NewClient(s.Control, s.Token), err
}

// printf writes to the command's standard output. It ignores errors: the reader may have closed the output.
func printf(cmd *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(cmd.OutOrStdout(), format, args...)
}

// absolute returns absolute paths. Each path must exist.
func absolute(paths []string) ([]string, error) {
	abs := make([]string, len(paths))
	for i, p := range paths {
		var err error
		if abs[i], err = filepath.Abs(p); err != nil {
			return nil, err
		}
		if _, err := os.Stat(abs[i]); err != nil {
			return nil, err
		}
	}
	return abs, nil
}
