package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// tables writes aligned columns; its errors come with Flush.
type tables struct{ *tabwriter.Writer }

func (r report) printTables(out io.Writer) error {
	t := tables{tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)}
	t.title("%s, %d cores, %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Go)
	if r.Latency != nil {
		t.latency(r.Latency)
	}
	if r.Backlog != nil {
		t.backlog(r.Backlog)
		t.cores(r.Backlog)
	}
	if r.Memory != nil {
		t.memory(r.Memory)
	}
	return t.Flush()
}

// title ends the table before it: a line without tabs does.
func (t tables) title(format string, args ...any) { fmt.Fprintf(t, "\n"+format+"\n", args...) }

func (t tables) row(cells ...any) {
	for _, cell := range cells {
		fmt.Fprintf(t, "%v\t", cell)
	}
	fmt.Fprintln(t)
}

func (t tables) latency(results []latency) {
	t.title("Latency: from create sent to signature seen, in milliseconds")
	t.row("Tasks", "at once", "p50", "p90", "p99", "max")
	for _, l := range results {
		t.row(l.Count, l.AtOnce, l.P50, l.P90, l.P99, l.Max)
	}
}

func (t tables) backlog(b *backlog) {
	t.title("Backlog: %d Tasks, %d at a time; rates per second from the first to the last", b.Count, b.Concurrency)
	t.row("round", "controller", "bare client", "ratio", "start to last", "writes/Task", "not once", "refused", "with Event", "last Event after")
	for i, r := range b.Rounds {
		t.row(i+1, fixed(r.Controller.PerSecond, 0), fixed(r.Bare.PerSecond, 0), fixed(r.Ratio, 2),
			r.StartToLast.String()+" s", fixed(r.Writes.PerResource, 2), r.Writes.NotOnce, r.Writes.Refused,
			r.Events.Resources, r.Events.LastAfter.String()+" s")
	}
	t.title("Median ratio: %.2f", b.MedianRatio)
}

// cores shows the busiest process first.
func (t tables) cores(b *backlog) {
	controller, bare := map[string]float64{}, map[string]float64{}
	add := func(sum, of map[string]float64) {
		for name, cores := range of {
			sum[name] += cores / float64(len(b.Rounds))
		}
	}
	for _, r := range b.Rounds {
		add(controller, r.Controller.Cores)
		add(bare, r.Bare.Cores)
	}
	t.title("Backlog: cores busy meanwhile, mean of the rounds")
	t.row("process", "with the controller", "with the bare client")
	for _, name := range slices.SortedFunc(maps.Keys(controller), func(x, y string) int {
		return cmp.Compare(controller[y], controller[x])
	}) {
		t.row(name, fixed(controller[name], 2), fixed(bare[name], 2))
	}
}

func (t tables) memory(results []memory) {
	t.title("Memory of the controller at rest: resident / anonymous / peak, in MiB")
	t.row("Tasks", "after signing all", "fresh start, all signed", "looked at all after")
	for _, m := range results {
		t.row(m.Count, m.AfterSigning, m.AfterStart, m.LookedAtAll.String()+" s")
	}
}

func (f footprint) String() string { return fmt.Sprintf("%v / %v / %v", f.Resident, f.Anonymous, f.Peak) }

func fixed(value float64, decimals int) string { return fmt.Sprintf("%.*f", decimals, value) }
