// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/realnode"
)

func newPreflight() *cobra.Command {
	return &cobra.Command{
		Use:     "preflight",
		Short:   "Say whether this machine can run a real node, and if not, why",
		Example: "  localcluster preflight && localcluster up --dir /tmp/lc --node real",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return realnode.CheckMachine() },
	}
}
