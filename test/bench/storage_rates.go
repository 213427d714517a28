package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// perNamespace is how many resources are stored in each namespace. To list
// referrers, go-containerregistry reads all manifests of a repository.
const perNamespace = 10

// storageRates are those of one way to store, with so many resources at once.
type storageRates struct {
	Registry string `json:"registry"`
	By       string `json:"by"`
	// Count is the number of resources in each round. They are in repositories
	// that have been stored in before.
	Count  int `json:"count"`
	AtOnce int `json:"atOnce"`
	// First is of resources that the registry does not have, Repeat of the same
	// ones again, and Retrieval of finding each by its checksum and verifying it.
	First     *rate `json:"firstStore,omitempty"`
	Repeat    *rate `json:"repeatStore,omitempty"`
	Retrieval *rate `json:"retrieval,omitempty"`
}

// rate is a number of resources per second. Of an even number of rounds the
// median is the lower one of two in the middle.
type rate struct {
	Median  float64 `json:"medianPerSecond"`
	Slowest float64 `json:"slowestPerSecond"`
	Fastest float64 `json:"fastestPerSecond"`
}

func rateOf(rounds []float64) *rate {
	if len(rounds) == 0 {
		return nil
	}
	return &rate{median(rounds), slices.Min(rounds), slices.Max(rounds)}
}

// storagePass is timed once in each round. Its numbers are resources per second,
// one of each round.
type storagePass struct {
	registry registryKind
	way      way
	atOnce   int
	samples  samples

	first, repeat, retrieval []float64
}

// passes are all that there are, in the order of the report.
func (b *storageBench) passes(ctx context.Context) ([]*storagePass, error) {
	var passes []*storagePass
	for _, registry := range b.registries {
		for _, way := range b.ways {
			samples, err := newSamples(ctx, way.count, perNamespace)
			if err != nil {
				return nil, err
			}
			for _, atOnce := range way.atOnce {
				passes = append(passes, &storagePass{registry: registry, way: way, atOnce: atOnce, samples: samples})
			}
		}
	}
	return passes, nil
}

func (p *storagePass) String() string {
	return fmt.Sprintf("%s, %s, %d at once", p.registry.name, p.way.name, p.atOnce)
}

// run times all that this way can do, in a registry of its own.
func (p *storagePass) run(ctx context.Context) error {
	return p.registry.with(ctx, func(host string) error {
		storer, err := p.way.open(ctx, host+"/bench", p.samples)
		if err != nil {
			return err
		}
		if err := forEach(ctx, p.samples.first, 1, storer.store); err != nil {
			return err
		}
		if err := p.time(ctx, &p.first, storer.store); err != nil {
			return fmt.Errorf("storing: %w", err)
		}
		ours, ok := storer.(retriever)
		if !ok {
			return nil
		}
		if err := p.time(ctx, &p.repeat, ours.store); err != nil {
			return fmt.Errorf("storing again: %w", err)
		}
		if err := p.time(ctx, &p.retrieval, ours.find); err != nil {
			return fmt.Errorf("retrieving: %w", err)
		}
		return nil
	})
}

// time appends to rounds how many resources this was done with per second.
func (p *storagePass) time(ctx context.Context, rounds *[]float64, do func(context.Context, sample) error) error {
	runtime.GC() // what came before is no burden
	start := time.Now()
	if err := forEach(ctx, p.samples.others, p.atOnce, do); err != nil {
		return err
	}
	*rounds = append(*rounds, float64(len(p.samples.others))/time.Since(start).Seconds())
	return nil
}

// forEach does something with so many samples at once.
func forEach(ctx context.Context, samples []sample, atOnce int, do func(context.Context, sample) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, s := range samples {
		group.Go(func() error { return do(ctx, s) })
	}
	return group.Wait()
}

func ratesOf(passes []*storagePass) []storageRates {
	rates := make([]storageRates, 0, len(passes))
	for _, p := range passes {
		rates = append(rates, storageRates{
			Registry: p.registry.name, By: p.way.name, Count: len(p.samples.others), AtOnce: p.atOnce,
			First: rateOf(p.first), Repeat: rateOf(p.repeat), Retrieval: rateOf(p.retrieval),
		})
	}
	return rates
}
