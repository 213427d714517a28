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

// localRegistry is one that is running.
type localRegistry interface {
	Host() string
	Stop() error
}

// buildRegistries makes the program that is missing. The first two kinds run in
// this process, in memory. Distribution is one of its own, and the disk that it
// has its files on says most of how fast it is.
func buildRegistries(ctx context.Context, out io.Writer) ([]registryKind, error) {
	kinds := []registryKind{
		{"go-containerregistry", func(ctx context.Context) (localRegistry, error) { return harness.StartRegistry(ctx) }},
		{"the same without referrers", func(ctx context.Context) (localRegistry, error) {
			return harness.StartRegistryWithoutReferrers(ctx)
		}},
		{"Distribution in " + os.TempDir(), func(ctx context.Context) (localRegistry, error) {
			return harness.StartDistribution(ctx, io.Discard, harness.DistributionOptions{})
		}},
	}
	return kinds, harness.BuildDistribution(ctx, out)
}

// with calls do with the host of a registry that is empty and nobody else's.
func (k registryKind) with(ctx context.Context, do func(host string) error) error {
	registry, err := k.start(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(registry.Host()), registry.Stop())
}
