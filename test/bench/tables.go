// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// tables collects text for a tabwriter: a tab ends each cell.
type tables struct{ strings.Builder }

func (r report) printTables(out io.Writer) error {
	var t tables
	t.line("%s, %d cores, %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Go)
	if r.Verification != nil {
		t.verification(r.Verification)
	}
	if r.Storage != nil {
		t.storage(r.Storage)
	}
	if r.Latency != nil {
		t.latency(r.Latency)
	}
	if r.Backlog != nil {
		t.backlog(r.Backlog)
		t.cores("Backlog", r.Backlog.Rounds)
	}
	if r.Rotation != nil {
		t.rotation(r.Rotation)
		t.cores("Rotation", r.Rotation.passes())
	}
	if r.Policies != nil {
		t.policies(r.Policies)
	}
	if r.Memory != nil {
		t.memory(r.Memory)
	}
	if r.Gate != nil {
		t.gate(r.Gate)
	}
	if r.Cost != nil {
		t.cost(r.Cost)
	}
	if r.Webhook != nil {
		t.webhook(r.Webhook)
	}
	if r.Soak != nil {
		t.soak(r.Soak)
	}
	aligned := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	if _, err := io.WriteString(aligned, t.String()); err != nil {
		return err
	}
	return aligned.Flush()
}

// line adds a line of text. The columns of the tables before and after the line
// are aligned separately.
func (t *tables) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

// row adds a row of a table.
func (t *tables) row(cells ...any) {
	for _, cell := range cells {
		fmt.Fprintf(t, "%v\t", cell)
	}
	fmt.Fprintln(t)
}

func (t *tables) verification(v *verifications) {
	t.line("\nVerification of one Task, in this process. Each time contains the checksum. Cold: no key is loaded; warm: the verdict is cached")
	t.row("steps", "policies", "matching", "keys", "checksum", "upstream", "cold", "cold / upstream", "warm", "warm / checksum", "upstream / warm")
	for _, r := range v.Rows {
		t.row(r.Steps, r.Policies, r.Matching, r.Key, r.Checksum, r.Upstream, r.Cold, fixed(r.coldRatio(), 2),
			r.Warm, fixed(r.warmRatio(), 2), fixed(float64(r.Upstream/r.Warm), 0))
	}
	if v.Notice != "" {
		t.line("%s", v.Notice)
	}
	t.line("\nMemory of the verdict cache when it is full")
	t.row("verdicts requested", "bytes of each source", "bytes of heap")
	for _, m := range v.Memory {
		t.row(m.Verdicts, m.SourceBytes, m.HeapBytes)
	}
}

func (t *tables) latency(results []latency) {
	t.line("\nLatency: from sending the create request to the arrival of the signature")
	t.row("Tasks", "workers", "p50", "p90", "p99", "max")
	for _, l := range results {
		t.row(l.Count, l.Workers, l.P50, l.P90, l.P99, l.Max)
	}
}

func (t *tables) backlog(b *backlog) {
	t.line("\nBacklog: %d Tasks, %d workers; Tasks per second from the first annotation to the last", b.Count, b.Concurrency)
	t.row("round", "controller", "bare client", "ratio", "start to last", "writes/Task", "Tasks without exactly one write", "refused writes", "Tasks with Event", "last Event after")
	for i, r := range b.Rounds {
		t.row(i+1, fixed(r.Controller.PerSecond, 0), fixed(r.Bare.PerSecond, 0), fixed(r.Ratio, 2),
			r.StartToLast, fixed(r.Writes.PerResource, 2), r.Writes.NotOnce, r.Writes.Refused,
			r.Events.Resources, r.Events.LastAfter)
	}
	t.line("median ratio: %.2f", b.MedianRatio)
}

func (t *tables) cost(c *cost) {
	t.line("\nCost of metrics, traces and audit records: %d Tasks, %d workers; Tasks per second from the first annotation to the last", c.Count, c.Concurrency)
	t.row("round", "everything on", "off", "ratio", "controller's cores on", "off")
	for i, r := range c.Rounds {
		t.row(i+1, fixed(r.On.PerSecond, 0), fixed(r.Off.PerSecond, 0), fixed(r.Ratio, 2), fixed(r.On.Cores["controller"], 2), fixed(r.Off.Cores["controller"], 2))
	}
	t.line("median ratio: %.2f", c.MedianRatio)
}

// cores adds a row for each process, the busiest first.
func (t *tables) cores(measurement string, rounds []round) {
	controller, bare := map[string]float64{}, map[string]float64{}
	add := func(sum, of map[string]float64) {
		for name, cores := range of {
			sum[name] += cores / float64(len(rounds))
		}
	}
	for _, r := range rounds {
		add(controller, r.Controller.Cores)
		add(bare, r.Bare.Cores)
	}
	t.line("\n%s: cores in use from the first annotation to the last, mean of the rounds. The bare client is part of \"%s\"", measurement, thisProgram)
	t.row("process", "pass of the controller", "pass of the bare client")
	for _, name := range slices.SortedFunc(maps.Keys(controller), func(x, y string) int {
		return cmp.Compare(controller[y], controller[x])
	}) {
		t.row(name, fixed(controller[name], 2), fixed(bare[name], 2))
	}
}

func (t *tables) memory(results []memory) {
	t.line("\nMemory of the controller: resident / anonymous part of it / peak since the process started")
	t.row("Tasks", "start to last signature", "accepted by Tekton", "after signing all", "after a restart, idle", "restart to idle")
	for _, m := range results {
		t.row(m.Count, m.StartToLast, m.Accepted, m.AfterSigning, m.AfterStart, m.LookedAtAll)
	}
}

func (f footprint) String() string {
	return fmt.Sprintf("%.0f / %.0f / %v", float64(f.Resident), float64(f.Anonymous), f.Peak)
}

// fixed formats a value with a number of decimals.
func fixed(value float64, decimals int) string { return fmt.Sprintf("%.*f", decimals, value) }
