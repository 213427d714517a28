// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cluster"
)

// runFlags are common to run and up.
type runFlags struct {
	buildFlags
	dir       string
	manifests []string
	nodes     int
}

func (f *runFlags) add(cmd *cobra.Command) {
	f.buildFlags.add(cmd)
	dirFlag(cmd, &f.dir)
	cmd.Flags().StringArrayVar(&f.manifests, "manifests", nil, "file or directory of manifests to apply, without Deployments and other workloads unless the node is real (repeatable)")
	cmd.Flags().IntVar(&f.nodes, "nodes", 1, "number of nodes; 2 need --node real")
}

func (f *runFlags) complete() (err error) {
	if err := f.buildFlags.complete(); err != nil {
		return err
	}
	if highest := f.node.kind.MaxNodes; f.nodes < 1 || f.nodes > highest {
		return fmt.Errorf("--nodes %d: with --node %s, use a number from 1 to %d", f.nodes, f.node.name, highest)
	}
	if err := f.requireBinaries(); err != nil {
		return err
	}
	f.manifests, err = absolute(f.manifests)
	return err
}

func newRun() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a cluster in the foreground",
		Long: `Run starts all parts of a cluster and supervises them until it gets SIGINT or SIGTERM. Then it stops them
in reverse order. If run itself is killed, the kernel kills all parts; containers of a real node end at the next
up, run or down. When the cluster is ready, run prints
"ready in ..." and writes state.json into the directory. Data of an earlier run in the directory is kept.`,
		Example: `  localcluster run --dir /tmp/lc
  localcluster run --dir /tmp/lc --manifests config/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.complete(); err != nil {
				return err
			}
			return cluster.Run(cmd.Context(), cluster.Options{
				Dir: flags.dir, Bin: flags.bin, Module: flags.module, Manifests: flags.manifests,
				NodeKind: flags.node.kind, Nodes: flags.nodes, Releases: flags.releases(),
				Out: cmd.OutOrStdout(),
			})
		},
	}
	flags.add(cmd)
	return cmd
}
