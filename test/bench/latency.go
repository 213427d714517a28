package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"golang.org/x/sync/errgroup"

	"github.com/trusted-resources/chains-extension/test/harness"
)

const latencyTimeout = 15 * time.Minute

// latency is from the sending of a create request to the arrival, on a watch of
// the same client, of the Task with its signature. It contains the API server's
// and Tekton's webhooks' part in both writes.
type latency struct {
	// AtOnce is how many Tasks are waited for at any time: that many workers
	// create one, wait for its signature and create the next.
	AtOnce int          `json:"atOnce"`
	Count  int          `json:"count"`
	P50    milliseconds `json:"p50Milliseconds"`
	P90    milliseconds `json:"p90Milliseconds"`
	P99    milliseconds `json:"p99Milliseconds"`
	Max    milliseconds `json:"maxMilliseconds"`
}

func (b *bench) measureLatency(ctx context.Context, o options) (results []latency, err error) {
	ctx, cancel := context.WithTimeout(ctx, latencyTimeout)
	defer cancel()
	err = b.withTasks(ctx, optedIn, 0, func(namespace string) error {
		tracker, err := b.track(ctx, namespace, trustedresources.SignatureAnnotation)
		if err != nil {
			return err
		}
		return b.withController(ctx, o.concurrency, func(*harness.Controller) error {
			// The first signature is also that of a leader that has just started.
			if err := b.create(ctx, namespace, "first"); err != nil {
				return err
			}
			if _, err := tracker.waitTask(ctx, "first"); err != nil {
				return err
			}
			for _, atOnce := range []int{1, 50} {
				b.log.Printf("latency of %d Tasks, %d at once", o.latencyCount(), atOnce)
				names := make([]string, o.latencyCount())
				for i := range names {
					names[i] = fmt.Sprintf("task-%d-at-once-%d", atOnce, i)
				}
				waits, err := b.latencies(ctx, namespace, tracker, names, atOnce)
				if err != nil {
					return err
				}
				results = append(results, summarize(atOnce, waits))
			}
			return nil
		})
	})
	return results, err
}

// latencies are those of new Tasks with these names, in no order.
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

func summarize(atOnce int, waits []time.Duration) latency {
	slices.Sort(waits)
	// percentile is the smallest value that p of all do not exceed.
	percentile := func(p float64) milliseconds {
		return inMilliseconds(waits[int(math.Ceil(p*float64(len(waits))))-1])
	}
	return latency{
		AtOnce: atOnce, Count: len(waits),
		P50: percentile(0.50), P90: percentile(0.90), P99: percentile(0.99), Max: percentile(1),
	}
}
