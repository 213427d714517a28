// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the controller on a real control plane: etcd, the Kubernetes API
// server and Tekton Pipelines, with the RBAC of config/. See test/README.md for how to
// run one test and where its logs are.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
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
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	binaries, err := harness.Build(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the binaries:", err)
		return 1
	}
	stop, err := beforeCluster(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the servers that the cluster needs:", err)
		return 1
	}
	defer func() {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	dir, err := os.MkdirTemp("", "cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if cluster, err = harness.Run(ctx, binaries, dir, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "starting the cluster:", err)
		return 1
	}
	code := m.Run()
	if err := cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping the cluster:", err)
		return 1
	}
	if code == 0 {
		_ = os.RemoveAll(dir)
	} else {
		fmt.Fprintln(os.Stderr, "logs of the failed tests are in", filepath.Join(dir, "logs"))
	}
	return code
}
