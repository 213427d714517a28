package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
)

// storage is measured in registries on this machine, without a cluster.
type storage struct {
	Rounds int `json:"rounds"`
	// Notice says what is left out.
	Notice   string            `json:"notice,omitempty"`
	Requests []storageRequests `json:"requests"`
	Rates    []storageRates    `json:"rates"`
}

// storageBench has the registries to measure in and the ways to be measured.
type storageBench struct {
	registries []registryKind
	ways       []way
	log        *log.Logger // progress
}

// way is a way to get resources into a registry, signed.
type way struct {
	name   string
	atOnce []int
	// count is how many resources it stores in each pass.
	count int
	// open prepares all that is not to be measured. What is stored is below the
	// prefix, a registry and the start of a repository's name.
	open func(ctx context.Context, prefix string, samples samples) (storer, error)
}

// storer stores a resource and attaches a signature of what it has stored.
type storer interface {
	store(ctx context.Context, s sample) error
}

// retriever is a storer that also finds and verifies what it has stored, and
// knows when there is nothing to do.
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
	if b.ways, err = libraryWays(ctx, dir, o.storageCount); err != nil {
		return result, err
	}
	if o.commandCount > 0 {
		commands, err := commandWay(ctx, dir, o.commandCount, stderr)
		if err != nil {
			return result, err
		}
		b.ways = append(b.ways, commands)
	} else {
		result.Notice = "tkn and cosign are left out: --command-count is 0."
	}
	if result.Requests, err = b.countRequests(ctx); err != nil {
		return result, err
	}
	result.Rates, err = b.measureRates(ctx, o.rounds)
	return result, err
}

// measureRates has all passes once in each round. It returns what there is even
// if a later one fails.
func (b *storageBench) measureRates(ctx context.Context, rounds int) ([]storageRates, error) {
	passes, err := b.passes(ctx)
	if err != nil {
		return nil, err
	}
	for i := range rounds {
		order := slices.Clone(passes)
		if i%2 == 1 {
			slices.Reverse(order) // whatever drifts is no advantage to either
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
