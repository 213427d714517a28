// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cluster"
)

// runFlags are common to run and up.
type runFlags struct {
	buildFlags
	dir       string
	manifests []string
}

func (f *runFlags) add(cmd *cobra.Command) {
	f.buildFlags.add(cmd)
	dirFlag(cmd, &f.dir)
	cmd.Flags().StringArrayVar(&f.manifests, "manifests", nil, "file or directory of manifests to apply, without Deployments and other workloads (repeatable)")
}

func (f *runFlags) complete() (err error) {
	if err := f.buildFlags.complete(); err != nil {
		return err
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
in reverse order. If run itself is killed, the kernel kills all parts. When the cluster is ready, run prints
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
				Out: cmd.OutOrStdout(),
			})
		},
	}
	flags.add(cmd)
	return cmd
}
