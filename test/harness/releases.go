// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"io"
)

// Releases are releases of the parts of a cluster. Empty means the release in the
// go.mod of test/localcluster.
type Releases struct{ Tekton, Kubernetes string }

func (r Releases) flags() []string {
	return []string{"--tekton-release", r.Tekton, "--kubernetes-release", r.Kubernetes}
}

// WithReleases builds the binaries of releases from their own modules, each once, and
// returns the binaries with the releases in place of those of go.mod.
func (b Binaries) WithReleases(ctx context.Context, releases Releases, out io.Writer) (Binaries, error) {
	build := command(ctx, out, b.LocalCluster, append([]string{
		"build", "--bin", b.Dir, "--module", localClusterModule(),
	}, releases.flags()...)...)
	if err := build.Run(); err != nil {
		return b, fmt.Errorf("%s: %w", build, err)
	}
	b.Releases = releases
	return b, nil
}

// UpgradeTekton installs another release of Tekton in the running cluster. Empty means
// the release in the go.mod of test/localcluster.
func (c *Cluster) UpgradeTekton(ctx context.Context, release string) error {
	_, err := c.localcluster(ctx, "upgrade", "--tekton-release", release)
	return err
}
