// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/build"
)

// releaseFlags are releases whose programs take the place of those in the module's go.mod.
type releaseFlags struct{ tekton, kubernetes string }

func (f *releaseFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.tekton, "tekton-release", "", "release of Tekton Pipelines, such as v1.9.2 (default: the version in go.mod)")
	cmd.Flags().StringVar(&f.kubernetes, "kubernetes-release", "", "release of the Kubernetes control plane, such as v1.33.13 (default: the version in go.mod)")
}

func (f *releaseFlags) releases() []build.Release {
	var all []build.Release
	if f.tekton != "" {
		all = append(all, build.Tekton(f.tekton))
	}
	if f.kubernetes != "" {
		all = append(all, build.Kubernetes(f.kubernetes))
	}
	return all
}

// missing returns the binaries of the releases that are not built.
func (f *releaseFlags) missing(bin string) []string {
	releases := f.releases()
	missing := make([][]string, 0, len(releases))
	for _, release := range releases {
		missing = append(missing, release.Missing(bin))
	}
	return slices.Concat(missing...)
}

// args returns the flags for another invocation of localcluster.
func (f *releaseFlags) args() []string {
	return []string{"--tekton-release", f.tekton, "--kubernetes-release", f.kubernetes}
}

func newUpgrade() *cobra.Command {
	var dir, version string
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Install another release of Tekton over the running one",
		Long: `Upgrade applies the manifests of another release of Tekton Pipelines to the running cluster, and replaces
Tekton's processes by those of the release. All other parts continue to run. The binaries must have been built.`,
		Example: `  localcluster build --tekton-release v1.9.2
  localcluster up --dir /tmp/lc --tekton-release v1.9.2
  localcluster upgrade --dir /tmp/lc`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := connect(dir)
			if err != nil {
				return err
			}
			start := time.Now()
			parts, err := client.Upgrade(cmd.Context(), version)
			if err != nil {
				return err
			}
			for _, p := range parts {
				if strings.HasPrefix(p.Name, "tekton-") {
					report(cmd, parts, p.Name, time.Since(start))
				}
			}
			return nil
		},
	}
	dirFlag(cmd, &dir)
	cmd.Flags().StringVar(&version, "tekton-release", "", "release of Tekton Pipelines (default: the version in go.mod)")
	return cmd
}
