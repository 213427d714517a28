// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/realnode"
)

func newPackages() *cobra.Command {
	return &cobra.Command{
		Use:     "packages",
		Short:   "List the Debian packages that a real node needs and that are not installed",
		Long:    "Packages prints one name in each line, and nothing if all packages are installed.",
		Example: "  apt-get install --no-install-recommends $(localcluster packages)",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range realnode.MissingPackages() {
				printf(cmd, "%s\n", name)
			}
			return nil
		},
	}
}
