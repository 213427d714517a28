// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

func newKeyRollback(access *keyAccess) *cobra.Command {
	var ring string
	var dryRun bool
	var waiting rotationWait
	var format output
	command := &cobra.Command{
		Use:   "rollback",
		Short: "Go back to the key that signed before",
		Long: `Go back to the key that signed before.

While the rotation has not reached its target, the active key becomes the target again.
After that, the retiring key that signed last does. A key that is retired cannot become
the target: policies do not trust the key any more.

To repeat the command changes nothing.`,
		Example: `  tkn-trust key rollback --wait=active`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := waiting.check(dryRun); err != nil {
				return err
			}
			tool, err := access.connect(cmd, &format)
			if err != nil {
				return err
			}
			found, changed, err := tool.change(cmd.Context(), ring, dryRun, func(ring *v1alpha1.KeyRing) error {
				previous, err := keyring.Previous(ring)
				if err != nil {
					return err
				}
				return keyring.Aim(ring, previous)
			})
			if err != nil {
				return err
			}
			tool.sayTarget(found, changed, dryRun)
			return waiting.run(cmd.Context(), tool, found, keyring.Target(found))
		},
	}
	addRing(command, &ring)
	addDryRun(command, &dryRun)
	waiting.add(command)
	format.add(command, "text", "json", "yaml")
	return command
}
