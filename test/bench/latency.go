// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trusted-resources/chains-extension/test/harness"
)

const latencyTimeout = 15 * time.Minute

// latency is the time from sending a create request until a watch of the same
// client delivers the Task with its signature. It contains the time that the API
// server and Tekton's webhooks take for both writes.
type latency struct {
	// Workers is the number of workers. Each worker creates a Task, waits for the
	// signature and creates the next Task.
	Workers int          `json:"atOnce"`
	Count   int          `json:"count"`
	P50     milliseconds `json:"p50Milliseconds"`
	P90     milliseconds `json:"p90Milliseconds"`
	P99     milliseconds `json:"p99Milliseconds"`
	Max     milliseconds `json:"maxMilliseconds"`
}

func (b *bench) measureLatency(ctx context.Context, o options) (results []latency, err error) {
	ctx, cancel := context.WithTimeout(ctx, latencyTimeout)
	defer cancel()
	err = b.withTasks(ctx, optedIn, 0, func(namespace string) error {
		tracker, err := b.track(ctx, namespace)
		if err != nil {
			return err
		}
		return b.withController(ctx, o.concurrency, func(*harness.Controller) error {
			// Not measured: the first signature waits for the leader election.
			if err := b.create(ctx, namespace, "first"); err != nil {
				return err
			}
			if _, err := tracker.waitTask(ctx, "first"); err != nil {
				return err
			}
			for _, workers := range []int{1, 50} {
				b.log.Printf("%s: latency of %d Tasks, %d workers", namespace, o.latencyCount(), workers)
				names := make([]string, o.latencyCount())
				for i := range names {
					names[i] = fmt.Sprintf("task-%d-workers-%d", workers, i)
				}
				waits, err := b.latencies(ctx, namespace, tracker, names, workers)
				if err != nil {
					return err
				}
				results = append(results, summarize(workers, waits))
			}
			return nil
		})
	})
	return results, err
}

// latencies creates Tasks with these names and returns the time that each waits
// for its signature.
func (b *bench) latencies(ctx context.Context, namespace string, tracker *tracker, names []string, workers int) ([]time.Duration, error) {
	waits := make([]time.Duration, len(names))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	for i, name := range names {
		group.Go(func() error {
			sent := time.Now()
			if err := b.create(ctx, namespace, name); err != nil {
				return err
			}
			signed, err := tracker.waitTask(ctx, name)
			waits[i] = signed.Sub(sent)
			return err
		})
	}
	return waits, group.Wait()
}

// summarize computes the percentiles. It sorts waits.
func summarize(workers int, waits []time.Duration) latency {
	slices.Sort(waits)
	// percentile returns the smallest value that the share p of all values does
	// not exceed.
	percentile := func(p float64) milliseconds {
		return inMilliseconds(waits[int(math.Ceil(p*float64(len(waits))))-1])
	}
	return latency{
		Workers: workers, Count: len(waits),
		P50: percentile(0.50), P90: percentile(0.90), P99: percentile(0.99), Max: percentile(1),
	}
}
