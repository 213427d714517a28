// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// storageRequests counts the requests that a registry receives while resources
// are stored one after the other.
type storageRequests struct {
	Registry string `json:"registry"`
	By       string `json:"by"`
	What     string `json:"what"`
	// PerResource is the mean number of requests for one resource.
	PerResource float64 `json:"requestsPerResource"`
	// ByCall has a part of PerResource for each kind of request, such as "GET
	// manifests".
	ByCall map[string]float64 `json:"requestsPerResourceByCall"`
}

// countRequests stores with every method through a proxy that counts requests.
// It measures no times.
func (b *storageBench) countRequests(ctx context.Context) ([]storageRequests, error) {
	var all []storageRequests
	for _, registry := range b.registries {
		for _, method := range b.methods {
			b.log.Printf("requests: %s, %s", registry.name, method.name)
			counted, err := countMethod(ctx, registry, method)
			if err != nil {
				return all, fmt.Errorf("counting requests: %s, %s: %w", registry.name, method.name, err)
			}
			all = append(all, counted...)
		}
	}
	return all, nil
}

func countMethod(ctx context.Context, registry registryKind, method method) (counted []storageRequests, err error) {
	const count, perNamespace = 8, 4 // in two namespaces
	samples, err := newSamples(ctx, count, perNamespace)
	if err != nil {
		return nil, err
	}
	err = registry.with(ctx, func(host string) error {
		proxy, err := harness.StartProxy(ctx, host)
		if err != nil {
			return err
		}
		counted, err = countSteps(ctx, proxy, method, samples)
		return errors.Join(err, proxy.Stop())
	})
	for i := range counted {
		counted[i].Registry, counted[i].By = registry.name, method.name
	}
	return counted, err
}

// countSteps counts the first store in a registry and the first store in a
// repository separately, because a method sends some requests only then.
func countSteps(ctx context.Context, proxy *harness.Proxy, method method, samples samples) ([]storageRequests, error) {
	storer, err := method.open(ctx, proxy.Host()+"/bench", samples)
	if err != nil {
		return nil, err
	}
	type step struct {
		what    string
		samples []sample
		do      func(context.Context, sample) error
	}
	steps := []step{
		{"first store in the registry", samples.initial[:1], storer.store},
		{"first store in a repository", samples.initial[1:], storer.store},
		{"store of another resource", samples.following, storer.store},
	}
	if finder, ok := storer.(retriever); ok {
		steps = append(steps, step{"repeat store", samples.following, finder.store}, step{"retrieval", samples.following, finder.find})
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
		r.ByCall[callName(call)] = float64(n) / float64(resources)
	}
	return r
}

func callName(call harness.Call) string {
	if call.Endpoint == harness.EndpointOther {
		return call.Method + " /v2/"
	}
	return call.Method + " " + string(call.Endpoint)
}
