// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"context"
	"os"
	"testing"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// cluster is shared by all tests, which run one after another. It has two nodes.
var cluster *harness.Cluster

func TestMain(m *testing.M) {
	os.Exit(harness.InCluster(start, func(c *harness.Cluster) int {
		cluster = c
		return m.Run()
	}))
}

func start(ctx context.Context, dir string) (*harness.Cluster, error) {
	binaries, err := harness.BuildReal(ctx, os.Stderr)
	if err != nil {
		return nil, err
	}
	return harness.RunReal(ctx, binaries, dir, 2, os.Stderr)
}
