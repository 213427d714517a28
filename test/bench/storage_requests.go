package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// storageRequests are those that a registry gets, one resource after the other.
type storageRequests struct {
	Registry string `json:"registry"`
	By       string `json:"by"`
	What     string `json:"what"`
	// PerResource is the mean over the resources, all of one shape.
	PerResource float64 `json:"requestsPerResource"`
	// ByCall divides that by what is asked, such as "GET manifests".
	ByCall map[string]float64 `json:"requestsPerResourceByCall"`
}

// countRequests has all ways store through a proxy that counts. Nothing is timed
// meanwhile.
func (b *storageBench) countRequests(ctx context.Context) ([]storageRequests, error) {
	var all []storageRequests
	for _, registry := range b.registries {
		for _, way := range b.ways {
			b.log.Printf("requests: %s, %s", registry.name, way.name)
			counted, err := countWay(ctx, registry, way)
			if err != nil {
				return all, fmt.Errorf("counting requests: %s, %s: %w", registry.name, way.name, err)
			}
			all = append(all, counted...)
		}
	}
	return all, nil
}

func countWay(ctx context.Context, registry registryKind, way way) (counted []storageRequests, err error) {
	const count, perNamespace = 8, 4 // two namespaces
	samples, err := newSamples(ctx, count, perNamespace)
	if err != nil {
		return nil, err
	}
	err = registry.with(ctx, func(host string) error {
		proxy, err := harness.StartProxy(ctx, host)
		if err != nil {
			return err
		}
		counted, err = countSteps(ctx, proxy, way, samples)
		return errors.Join(err, proxy.Stop())
	})
	for i := range counted {
		counted[i].Registry, counted[i].By = registry.name, way.name
	}
	return counted, err
}

// countSteps begins with what is asked only once: of a registry, and of each
// repository.
func countSteps(ctx context.Context, proxy *harness.Proxy, way way, samples samples) ([]storageRequests, error) {
	storer, err := way.open(ctx, proxy.Host()+"/bench", samples)
	if err != nil {
		return nil, err
	}
	type step struct {
		what    string
		samples []sample
		do      func(context.Context, sample) error
	}
	steps := []step{
		{"first store in the registry", samples.first[:1], storer.store},
		{"first store in a repository", samples.first[1:], storer.store},
		{"first store of others", samples.others, storer.store},
	}
	if ours, ok := storer.(retriever); ok {
		steps = append(steps, step{"repeat store", samples.others, ours.store}, step{"retrieval", samples.others, ours.find})
	}
	counted := make([]storageRequests, 0, len(steps))
	for _, step := range steps {
		before := proxy.Count()
		if err := forEach(ctx, step.samples, 1, step.do); err != nil {
			return counted, fmt.Errorf("%s: %w", step.what, err)
		}
		counted = append(counted, requestsOf(step.what, proxy.Count().Since(before), len(step.samples)))
	}
	return counted, nil
}

func requestsOf(what string, counts harness.Counts, resources int) storageRequests {
	r := storageRequests{What: what, PerResource: float64(counts.Total()) / float64(resources), ByCall: map[string]float64{}}
	for call, n := range counts {
		r.ByCall[nameOf(call)] = float64(n) / float64(resources)
	}
	return r
}

func nameOf(call harness.Call) string {
	if call.Endpoint == harness.EndpointOther {
		return call.Method + " /v2/"
	}
	return call.Method + " " + string(call.Endpoint)
}
