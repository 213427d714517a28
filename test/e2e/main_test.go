// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the controller on a real control plane: etcd, the Kubernetes API
// server and Tekton Pipelines, with the RBAC of config/. See test/README.md for how to
// run one test and where its logs are.
package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// cluster is shared by all tests. Each test works in namespaces of its own. The tests
// run one after another, because a cluster has one configuration and one leader.
var cluster *harness.Cluster

// beforeCluster starts servers that the processes of the cluster find by environment
// variables. Files with a build tag set it, see kms_test.go.
var beforeCluster = func(context.Context) (stop func() error, err error) {
	return func() error { return nil }, nil
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	stop := func() error { return nil }
	defer func() {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	start := func(ctx context.Context, dir string) (*harness.Cluster, error) {
		binaries, err := harness.Build(ctx, os.Stderr)
		if err != nil {
			return nil, err
		}
		servers, err := beforeCluster(ctx)
		if err != nil {
			return nil, err
		}
		stop = servers
		if err := harness.HurryTekton(); err != nil {
			return nil, err
		}
		return harness.Run(ctx, binaries, dir, os.Stderr)
	}
	return harness.InCluster(start, func(c *harness.Cluster) int {
		cluster = c
		return m.Run()
	})
}
