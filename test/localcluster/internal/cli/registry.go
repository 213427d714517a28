// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/cluster"
	"github.com/trusted-resources/chains-extension/test/localcluster/internal/images"
)

func newRegistry() *cobra.Command {
	var address, data string
	cmd := &cobra.Command{
		Use:     cluster.RegistryCommand,
		Short:   "Serve the registry of a cluster with real nodes, in the foreground",
		Long:    "Registry serves images without authentication until it gets SIGINT or SIGTERM. It is a part of a cluster.",
		Example: "  localcluster registry --address 127.0.0.1:5000 --data /tmp/registry",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return images.Serve(cmd.Context(), address, data)
		},
	}
	cmd.Flags().StringVar(&address, "address", "127.0.0.1:5000", "address to listen on")
	cmd.Flags().StringVar(&data, "data", "", "directory of the layers (required)")
	if err := cmd.MarkFlagRequired("data"); err != nil {
		panic(err) // cannot happen: the flag exists
	}
	return cmd
}
