// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

func (t *tables) soak(s *soak) {
	h := s.Honest
	t.line("\nSoak of %v: one honest tenant with %v Tasks per second beside %d hostile ones", s.Duration, h.PerSecond, hostileNumber)
	t.row("honest tenant", "number", "p50", "p90", "p99", "slowest")
	t.row("create request to answer", h.Create.Count, h.Create.P50, h.Create.P90, h.Create.P99, h.Create.Max)
	t.row("answer to signature", h.Signature.Count, h.Signature.P50, h.Signature.P90, h.Signature.P99, h.Signature.Max)
	t.line("unsigned: %d, errors: %d", h.Unsigned, h.Errors)
	t.line("")
	t.row("hostile tenants", "actions", "failed", "per second")
	for _, a := range s.Hostile {
		t.row(a.Name, a.Count, a.Failed, fixed(float64(a.Count)/float64(s.Duration), 2))
	}
	t.line("connections that were never answered: %d to the registry, %d to the KMS", s.Unanswered.Registry, s.Unanswered.KMS)
	t.line("\nMemory of the controller: resident / anonymous part of it / peak since the process started")
	t.row("after", "memory", "process")
	for _, sample := range s.Memory {
		t.row(time.Duration(float64(sample.After)*float64(time.Second)).Round(time.Second), sample.Footprint, sample.PID)
	}
	if s.Growth != nil {
		t.line("growth after %v: %.0f %%", soakWarmUp, 100**s.Growth)
	}
	t.line("")
	t.row("process", "cores in use")
	for _, name := range slices.SortedFunc(maps.Keys(s.Cores), func(x, y string) int { return cmp.Compare(s.Cores[y], s.Cores[x]) }) {
		t.row(name, fixed(s.Cores[name], 2))
	}
	t.line("restarts: %d", s.Restarts)
	for _, fault := range s.Faults {
		t.line("FAULT: %s", fault)
	}
}
