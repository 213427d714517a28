// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

const releaseFlag = "tekton-release"

// addRelease adds the flag --tekton-release to a command.
func addRelease(command *cobra.Command, release *string) {
	command.Flags().StringVar(release, releaseFlag, "", "release of Tekton Pipelines, such as v1.9.3, for which each resource must be signed (default: any)")
}

// releaseCheck returns the check that the flag --tekton-release asks for. An empty
// value is an error: a script may have an unset variable there.
func releaseCheck(cmd *cobra.Command, release string) (func(*oci.Image) error, error) {
	if !cmd.Flags().Changed(releaseFlag) {
		return func(*oci.Image) error { return nil }, nil
	}
	parsed, err := tekton.ParseRelease(release)
	if err != nil {
		return nil, err
	}
	return func(found *oci.Image) error { return found.CheckDialect(parsed.Dialect()) }, nil
}

// forRelease returns the reference of a bundle by digest if the keys signed each of
// its resources for the release of the flag --tekton-release. Without the flag,
// forRelease returns the reference as it is.
func forRelease(ctx context.Context, cmd *cobra.Command, client *registry.Client, reference, release string, trusted *keys.Ring) (string, error) {
	check, err := releaseCheck(cmd, release)
	if err != nil || !cmd.Flags().Changed(releaseFlag) {
		return reference, err
	}
	found, err := oci.Inspect(ctx, client, reference, trusted)
	if err != nil {
		return "", err
	}
	return found.Reference, check(found)
}
