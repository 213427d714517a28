// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/trusted-resources/chains-extension/test/bench/verification"
)

// In each of verificationRounds rounds, each method runs for verificationTime. The
// report has the median of the rounds.
const (
	verificationRounds = 25
	verificationTime   = 15 * time.Millisecond
)

// verifications are the results of --verification. They are measured in this
// process, without a cluster.
type verifications struct {
	Rows []verificationRow `json:"rows"`
	// Notice says which rows are left out, and why.
	Notice string                `json:"notice,omitempty"`
	Memory []verification.Memory `json:"memory"`
}

// verificationRow has the time to verify one resource with each method. Each time
// contains the checksum.
type verificationRow struct {
	verification.Scenario
	Checksum microseconds `json:"checksumMicroseconds"`
	Upstream microseconds `json:"upstreamMicroseconds"`
	Cold     microseconds `json:"coldMicroseconds"`
	Warm     microseconds `json:"warmMicroseconds"`
}

// warmRatio returns the time with a cached verdict as a multiple of the time that
// the checksum alone takes.
func (r verificationRow) warmRatio() float64 { return float64(r.Warm / r.Checksum) }

// coldRatio returns the time without any cached key as a multiple of upstream's.
func (r verificationRow) coldRatio() float64 { return float64(r.Cold / r.Upstream) }

func measureVerification(ctx context.Context, o options) (*verifications, error) {
	result := &verifications{}
	if o.kms == "" {
		result.Notice = "The rows with a KMS are left out, because --kms names no key."
	}
	for _, scenario := range verification.Scenarios(o.kms != "") {
		row, err := measureScenario(ctx, scenario, o.kms)
		if err != nil {
			return result, fmt.Errorf("%s: %w", scenario, err)
		}
		result.Rows = append(result.Rows, row)
	}
	for _, sourceBytes := range []int{64, 3900} {
		memory, err := verification.MeasureMemory(ctx, sourceBytes)
		if err != nil {
			return result, err
		}
		result.Memory = append(result.Memory, memory)
	}
	return result, nil
}

func measureScenario(ctx context.Context, scenario verification.Scenario, kms string) (verificationRow, error) {
	comparison, err := verification.NewComparison(ctx, scenario, kms)
	if err != nil {
		return verificationRow{}, err
	}
	times := map[string][]time.Duration{}
	for round := range verificationRounds + 1 {
		for _, method := range comparison.Methods() {
			took, err := timeOnce(ctx, method.Verify)
			if err != nil {
				return verificationRow{}, fmt.Errorf("%s: %w", method.Name, err)
			}
			if round > 0 { // the first one warms up
				times[method.Name] = append(times[method.Name], took)
			}
		}
	}
	median := func(name string) microseconds {
		slices.Sort(times[name])
		return inMicroseconds(times[name][len(times[name])/2])
	}
	return verificationRow{scenario, median("checksum"), median("upstream"), median("cold"), median("warm")}, nil
}

// timeOnce returns the mean time of one call, from calls for verificationTime.
func timeOnce(ctx context.Context, do func(context.Context) error) (time.Duration, error) {
	const batch = 4 // calls between two readings of the clock, which take time too
	start := time.Now()
	for n := batch; ; n += batch {
		for range batch {
			if err := do(ctx); err != nil {
				return 0, err
			}
		}
		if took := time.Since(start); took >= verificationTime {
			return took / time.Duration(n), nil
		}
	}
}
