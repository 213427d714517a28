// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// perNamespace is the number of resources in each namespace. It is small, because
// the registry of go-containerregistry reads all manifests of a repository to
// list referrers.
const perNamespace = 10

// storageRates has the rates of one method with one number of workers.
type storageRates struct {
	Registry string `json:"registry"`
	By       string `json:"by"`
	// Count is the number of resources in each round. Their repositories already
	// hold another resource.
	Count   int `json:"count"`
	Workers int `json:"atOnce"`
	// First is the rate of storing resources that the registry does not have,
	// Repeat of storing the same resources again, and Retrieval of finding each
	// resource by its checksum and verifying it.
	First     *rate `json:"firstStore,omitempty"`
	Repeat    *rate `json:"repeatStore,omitempty"`
	Retrieval *rate `json:"retrieval,omitempty"`
}

// rate summarizes the resources per second of all rounds.
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

// storagePass is one row of the table of rates. It is measured once in each
// round.
type storagePass struct {
	registry registryKind
	method   method
	workers  int
	samples  samples

	first, repeat, retrieval []float64 // resources per second, one value of each round
}

// passes returns all passes, in the order of the report.
func (b *storageBench) passes(ctx context.Context) ([]*storagePass, error) {
	var passes []*storagePass
	for _, registry := range b.registries {
		for _, method := range b.methods {
			samples, err := newSamples(ctx, method.count, perNamespace)
			if err != nil {
				return nil, err
			}
			for _, workers := range method.workers {
				passes = append(passes, &storagePass{registry: registry, method: method, workers: workers, samples: samples})
			}
		}
	}
	return passes, nil
}

func (p *storagePass) String() string {
	return fmt.Sprintf("%s, %s, %d workers", p.registry.name, p.method.name, p.workers)
}

// run measures one round, in a new registry.
func (p *storagePass) run(ctx context.Context) error {
	return p.registry.with(ctx, func(host string) error {
		storer, err := p.method.open(ctx, host+"/bench", p.samples)
		if err != nil {
			return err
		}
		if err := forEach(ctx, p.samples.initial, 1, storer.store); err != nil {
			return err
		}
		if err := p.measure(ctx, &p.first, storer.store); err != nil {
			return fmt.Errorf("storing: %w", err)
		}
		finder, ok := storer.(retriever)
		if !ok {
			return nil
		}
		if err := p.measure(ctx, &p.repeat, finder.store); err != nil {
			return fmt.Errorf("storing again: %w", err)
		}
		if err := p.measure(ctx, &p.retrieval, finder.find); err != nil {
			return fmt.Errorf("retrieving: %w", err)
		}
		return nil
	})
}

// measure calls do for all following samples and appends the number of resources
// per second to rounds.
func (p *storagePass) measure(ctx context.Context, rounds *[]float64, do func(context.Context, sample) error) error {
	runtime.GC() // so that garbage of an earlier pass costs no time in this one
	start := time.Now()
	if err := forEach(ctx, p.samples.following, p.workers, do); err != nil {
		return err
	}
	*rounds = append(*rounds, float64(len(p.samples.following))/time.Since(start).Seconds())
	return nil
}

// forEach calls do for each sample, with a number of workers.
func forEach(ctx context.Context, samples []sample, workers int, do func(context.Context, sample) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for _, s := range samples {
		group.Go(func() error { return do(ctx, s) })
	}
	return group.Wait()
}

func ratesOf(passes []*storagePass) []storageRates {
	rates := make([]storageRates, 0, len(passes))
	for _, p := range passes {
		rates = append(rates, storageRates{
			Registry: p.registry.name, By: p.method.name, Count: len(p.samples.following), Workers: p.workers,
			First: rateOf(p.first), Repeat: rateOf(p.repeat), Retrieval: rateOf(p.retrieval),
		})
	}
	return rates
}
