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
	t.line("\nStorage: resources per second, median (slowest to fastest) of %d rounds. oci.Store signs, stores and reads back;", s.Rounds)
	t.line("libraries write the same, signed before, with go-containerregistry and cosign's; tkn + cosign are two processes for each resource")
	t.row("registry", "by", "resources", "at once", "first store /s", "repeat store /s", "retrieval /s")
	for _, r := range s.Rates {
		t.row(r.Registry, r.By, r.Count, r.AtOnce, r.First, r.Repeat, r.Retrieval)
	}
}

// storageRequests has a column for each call that there is.
func (t *tables) storageRequests(requests []storageRequests) {
	calls := map[string]bool{}
	for _, r := range requests {
		for call := range r.ByCall {
			calls[call] = true
		}
	}
	columns := slices.Sorted(maps.Keys(calls))
	t.line("\nStorage: requests per resource")
	t.row("registry", "by", "what", "requests", strings.Join(columns, "\t"))
	for _, r := range requests {
		cells := make([]string, len(columns))
		for i, call := range columns {
			cells[i] = number(r.ByCall[call])
		}
		t.row(r.Registry, r.By, r.What, number(r.PerResource), strings.Join(cells, "\t"))
	}
}

// number has decimals only where it needs them, and is not there if it is 0.
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
