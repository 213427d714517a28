// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
)

// storage has the results of --storage. They are measured in registries on this
// machine, without a cluster.
type storage struct {
	Rounds int `json:"rounds"`
	// Notice says which rows are left out, and why.
	Notice   string            `json:"notice,omitempty"`
	Requests []storageRequests `json:"requests"`
	Rates    []storageRates    `json:"rates"`
}

// storageBench measures every method in every registry.
type storageBench struct {
	registries []registryKind
	methods    []method
	log        *log.Logger // progress
}

// method is a method to store signed resources in a registry.
type method struct {
	name    string
	workers []int // numbers of workers to measure with
	// count is the number of resources in each pass.
	count int
	// open prepares the steps that are not measured. The prefix is the registry
	// and the start of the names of the repositories.
	open func(ctx context.Context, prefix string, samples samples) (storer, error)
}

// storer stores a resource as a bundle and attaches a signature to the bundle.
type storer interface {
	store(ctx context.Context, s sample) error
}

// retriever is a storer that also finds and verifies a stored bundle. Its store
// writes nothing if the registry has the bundle and the signature already.
type retriever interface {
	storer
	find(ctx context.Context, s sample) error
}

func measureStorage(ctx context.Context, o options, stderr io.Writer) (*storage, error) {
	result := &storage{Rounds: o.rounds}
	dir, err := os.MkdirTemp("", "bench-storage-")
	if err != nil {
		return result, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &storageBench{log: log.New(stderr, "", log.Ltime)}
	if b.registries, err = buildRegistries(ctx, stderr); err != nil {
		return result, err
	}
	if b.methods, err = libraryMethods(ctx, dir, o.storageCount); err != nil {
		return result, err
	}
	if o.commandCount > 0 {
		commands, err := commandMethod(ctx, dir, o.commandCount, stderr)
		if err != nil {
			return result, err
		}
		b.methods = append(b.methods, commands)
	} else {
		result.Notice = "tkn and cosign are left out, because --command-count is 0."
	}
	if result.Requests, err = b.countRequests(ctx); err != nil {
		return result, err
	}
	result.Rates, err = b.measureRates(ctx, o.rounds)
	return result, err
}

// measureRates runs every pass once in each round. After an error it returns the
// rates up to the error.
func (b *storageBench) measureRates(ctx context.Context, rounds int) ([]storageRates, error) {
	passes, err := b.passes(ctx)
	if err != nil {
		return nil, err
	}
	for i := range rounds {
		order := slices.Clone(passes)
		if i%2 == 1 {
			slices.Reverse(order) // so that a slow change of the machine's speed favours none
		}
		for _, p := range order {
			if err := p.run(ctx); err != nil {
				return ratesOf(passes), fmt.Errorf("%s: %w", p, err)
			}
			b.log.Printf("round %d of %d: %s: %.0f/s", i+1, rounds, p, p.first[i])
		}
	}
	return ratesOf(passes), nil
}
