// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// registryKind is a kind of registry on this machine.
type registryKind struct {
	name  string
	start func(context.Context) (localRegistry, error)
}

// localRegistry is a running registry.
type localRegistry interface {
	Host() string
	Stop() error
}

// buildRegistries returns the kinds of registries, and builds Distribution if its
// program is missing. The first two kinds run in this process, in memory.
// Distribution runs in a process of its own and stores files on disk, so its
// speed depends mostly on that disk.
func buildRegistries(ctx context.Context, out io.Writer) ([]registryKind, error) {
	kinds := []registryKind{
		{"go-containerregistry", func(ctx context.Context) (localRegistry, error) { return harness.StartRegistry(ctx) }},
		{"go-containerregistry without referrers API", func(ctx context.Context) (localRegistry, error) {
			return harness.StartRegistryWithoutReferrers(ctx)
		}},
		{"Distribution in " + os.TempDir(), func(ctx context.Context) (localRegistry, error) {
			return harness.StartDistribution(ctx, io.Discard, harness.DistributionOptions{})
		}},
	}
	return kinds, harness.BuildDistribution(ctx, out)
}

// with starts a new, empty registry, calls do with its host, and stops the
// registry.
func (k registryKind) with(ctx context.Context, do func(host string) error) error {
	registry, err := k.start(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(registry.Host()), registry.Stop())
}
