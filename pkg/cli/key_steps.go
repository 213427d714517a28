// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"time"
)

// step is one step of what a command waits for.
type step struct {
	name string
	done bool
	// text says what was done, or what the step waits for.
	text string
	// count is the number of things that are done, for a rate. It is 0 if there is none.
	count int64
}

// firstUndone returns the step that is next. It is nil if all are done.
func firstUndone(steps []step) *step {
	for i := range steps {
		if !steps[i].done {
			return &steps[i]
		}
	}
	return nil
}

// printer prints steps whenever one of them has changed.
type printer struct {
	lines  map[string]string // by name of the step
	counts map[string]counted
}

// counted is a count of a step at a time.
type counted struct {
	count int64
	at    time.Time
}

// print prints the steps that are done, and the one that is next, unless their lines are
// printed already.
func (p *printer) print(w io.Writer, steps []step, now time.Time) {
	for _, s := range steps {
		mark := "✓"
		if !s.done {
			mark = "…"
		}
		if p.lines[s.name] != mark+s.text {
			rate := p.rate(s, now)
			fmt.Fprintf(w, "%s %-9s  %s%s\n", mark, s.name, s.text, rate)
			p.remember(s.name, mark+s.text)
		}
		if !s.done {
			return
		}
	}
}

// rate returns how fast the count of a step grows.
func (p *printer) rate(s step, now time.Time) string {
	if p.counts == nil {
		p.counts = map[string]counted{}
	}
	before, found := p.counts[s.name]
	p.counts[s.name] = counted{s.count, now}
	took := now.Sub(before.at).Seconds()
	if !found || s.done || s.count <= before.count || took <= 0 {
		return ""
	}
	return fmt.Sprintf("  %.0f/s", float64(s.count-before.count)/took)
}

// note prints a line that belongs to no step, unless it was the last note.
func (p *printer) note(w io.Writer, line string) {
	if p.lines[""] != line {
		fmt.Fprintln(w, line)
		p.remember("", line)
	}
}

func (p *printer) remember(name, line string) {
	if p.lines == nil {
		p.lines = map[string]string{}
	}
	p.lines[name] = line
}
