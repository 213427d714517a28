package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/trusted-resources/chains-extension/test/bench/verification"
)

// Each way to verify is timed verificationRounds times in turn with the others,
// for so long; the median counts.
const (
	verificationRounds = 25
	verificationTime   = 15 * time.Millisecond
)

// verifications are measured in this process, without a cluster.
type verifications struct {
	Rows []verificationRow `json:"rows"`
	// Notice says what is left out.
	Notice string                `json:"notice,omitempty"`
	Memory []verification.Memory `json:"memory"`
}

// verificationRow is the time for one resource, the checksum included.
type verificationRow struct {
	verification.Scenario
	Checksum microseconds `json:"checksumMicroseconds"`
	Upstream microseconds `json:"upstreamMicroseconds"`
	Cold     microseconds `json:"coldMicroseconds"`
	Warm     microseconds `json:"warmMicroseconds"`
}

// warmRatio is what remembering all leaves to do beside the checksum.
func (r verificationRow) warmRatio() float64 { return float64(r.Warm / r.Checksum) }

func (r verificationRow) coldRatio() float64 { return float64(r.Cold / r.Upstream) }

func measureVerification(ctx context.Context, o options) (*verifications, error) {
	result := &verifications{}
	if o.kms == "" {
		result.Notice = "The rows with a KMS are left out: --kms has no reference to a key."
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

// timeOnce is the mean over verificationTime.
func timeOnce(ctx context.Context, do func(context.Context) error) (time.Duration, error) {
	const batch = 4 // so that looking at the clock does not count
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
