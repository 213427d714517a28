// SPDX-License-Identifier: Apache-2.0

// Command devcluster implements make demo, binaries, cluster-up, cluster-down and run.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/harness"
)

func main() { os.Exit(execute()) }

func execute() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "devcluster:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "devcluster",
		Short:         "Run a local cluster with the controller of this source tree",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newCommand("build", "Build the control plane, the controller and the tools that tests run", buildAll),
		newCommand("build-real", "The same, and what nodes need that run containers; installs Debian packages if it may", buildReal),
		newCommand("check-real", "Say whether this machine can have nodes that run containers; installs Debian packages if it may", checkReal),
		newCommand("up", "Start a cluster with the controller and leave it running", up),
		newCommand("down", "Stop that cluster and remove its data", down),
		newCommand("run", "Run the controller in the foreground instead of in the cluster", run),
		newCommand("demo", "Show signing, acceptance and refusal on a cluster that is removed at the end", demo),
	)
	return root
}

func newCommand(use, short string, run func(*cobra.Command) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd) }}
}

func buildAll(cmd *cobra.Command) error {
	if _, err := harness.Build(cmd.Context(), cmd.OutOrStdout()); err != nil {
		return err
	}
	if err := harness.BuildCosigns(cmd.Context(), cmd.OutOrStdout()); err != nil {
		return err
	}
	return harness.BuildDistribution(cmd.Context(), cmd.OutOrStdout())
}

func buildReal(cmd *cobra.Command) error {
	_, err := harness.BuildReal(cmd.Context(), cmd.OutOrStdout())
	return err
}

func checkReal(cmd *cobra.Command) error { return harness.CheckReal(cmd.Context(), cmd.ErrOrStderr()) }

// The directory of the cluster of up, run and down, and the files in it.
func clusterDir() string { return filepath.Join(harness.Root(), ".localcluster") }
func secretsDir() string { return filepath.Join(clusterDir(), "signing-secrets") }
func publicKey() string  { return filepath.Join(clusterDir(), "cosign.pub") }

// metricsURL is a file with the address of the controller's metrics.
func metricsURL() string { return filepath.Join(clusterDir(), "metrics-url") }
