// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
)

func newBuild() *cobra.Command {
	var flags buildFlags
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build all binaries of the cluster from the Go module cache",
		Long: `Build builds the binaries of the cluster in the versions of the module's go.mod. Binaries that are up to
date are not built again. The first build takes about 15 minutes on two cores.`,
		Example: `  localcluster build
  localcluster build --node real
  localcluster build --bin /tmp/bin
  localcluster build --tekton-release v1.9.2 --kubernetes-release v1.33.13`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.complete(); err != nil {
				return err
			}
			report := func(format string, args ...any) { printf(cmd, format+"\n", args...) }
			if err := build.All(cmd.Context(), flags.module, flags.bin, flags.node.binaries(), report); err != nil {
				return err
			}
			for _, release := range flags.releases() {
				if err := release.Build(cmd.Context(), flags.bin, report); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags.add(cmd)
	return cmd
}
