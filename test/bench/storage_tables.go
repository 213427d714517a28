// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

func (t *tables) storage(s *storage) {
	t.storageRates(s)
	t.storageRequests(s.Requests)
	if s.Notice != "" {
		t.line("%s", s.Notice)
	}
}

func (t *tables) storageRates(s *storage) {
	t.line("\nStorage: resources per second, median (slowest to fastest) of %d rounds. oci.Store signs, stores and reads back.", s.Rounds)
	t.line("The libraries of go-containerregistry and cosign write the same bundles, signed before the measurement. tkn and cosign run one process each for each resource")
	t.row("registry", "method", "resources", "workers", "first store /s", "repeat store /s", "retrieval /s")
	for _, r := range s.Rates {
		t.row(r.Registry, r.By, r.Count, r.Workers, r.First, r.Repeat, r.Retrieval)
	}
}

// storageRequests has a column for each kind of request that a registry received.
func (t *tables) storageRequests(requests []storageRequests) {
	calls := map[string]bool{}
	for _, r := range requests {
		for call := range r.ByCall {
			calls[call] = true
		}
	}
	columns := slices.Sorted(maps.Keys(calls))
	t.line("\nStorage: requests per resource")
	t.row("registry", "method", "step", "requests", strings.Join(columns, "\t"))
	for _, r := range requests {
		cells := make([]string, len(columns))
		for i, call := range columns {
			cells[i] = number(r.ByCall[call])
		}
		t.row(r.Registry, r.By, r.What, number(r.PerResource), strings.Join(cells, "\t"))
	}
}

// number formats a value with at most three digits. It leaves the cell of a 0
// empty.
func number(value float64) string {
	if value == 0 {
		return ""
	}
	return strconv.FormatFloat(value, 'g', 3, 64)
}

func (r *rate) String() string {
	if r == nil {
		return ""
	}
	decimals := 0
	if r.Median < 10 {
		decimals = 1
	}
	return fmt.Sprintf("%s (%s to %s)", fixed(r.Median, decimals), fixed(r.Slowest, decimals), fixed(r.Fastest, decimals))
}
