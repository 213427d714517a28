// SPDX-License-Identifier: Apache-2.0

// Package auditlog writes the audit log: it chains records, signs checkpoints, and hands the
// lines to the sinks.
package auditlog

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

const (
	// maxUncovered and maxInterval say when a checkpoint is due: after so many records, and
	// so long after a record.
	maxUncovered = 1000
	maxInterval  = time.Minute
	// tick is the time between two looks at what is due.
	tick = time.Second
	// signTimeout bounds the signature of a checkpoint.
	signTimeout = 10 * time.Second
	// confirmTimeout bounds how long Write waits for the file.
	confirmTimeout = 2 * time.Second
)

// Settings say where records go.
type Settings struct {
	Stdout bool
	// File is the file; the zero value stands for none.
	File FileSettings
	// WebhookURL receives CloudEvents; empty for none.
	WebhookURL string
	// Block asks Write for an error when the file has not stored a record.
	Block bool
}

// Outcomes of records in a sink, for Reporter.
const (
	Written = "written" // the sink has the record
	Dropped = "dropped" // the sink did not keep up
	Failed  = "failed"  // the sink returned an error
)

// Reporter learns what happens to records.
type Reporter interface {
	// AuditRecords counts records of a sink.
	AuditRecords(sink, outcome string, records int)
	// AuditFailed reports that a sink begins to lose records.
	AuditFailed(sink string, err error)
}

// Options are what a Log needs.
type Options struct {
	// Version and Host describe the process.
	Version, Host string
	// Actor is the user of this process at the API server; empty if that is not known.
	Actor string
	// Key returns the key that signs checkpoints.
	Key      func() (*keys.Key, error)
	Reporter Reporter
	Clock    clock.WithTicker
}

// Log is the audit log of this process. It keeps nothing before Configure.
type Log struct {
	options Options
	stream  string

	mu       sync.Mutex // guards the fields below
	settings Settings
	sinks    []*sink
	seq      uint64
	head     audit.Hash
	last     time.Time
	closed   bool
	// uncovered counts the records since the last checkpoint; since is when the first of
	// them was written.
	uncovered int
	since     time.Time

	due     chan audit.CheckpointReason
	stop    context.CancelFunc
	stopped chan struct{}
}

// New returns a log without sinks. Close ends it.
func New(ctx context.Context, o Options) *Log {
	// The log outlives the controllers, whose last records it has.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Log{
		options: o, stream: uuid.NewString(),
		due: make(chan audit.CheckpointReason, 1), stop: stop, stopped: make(chan struct{}),
	}
	go l.run(ctx)
	return l
}

// Configure changes the sinks. Sinks that stay lose nothing. Calls come one after another.
func (l *Log) Configure(settings Settings) {
	for _, s := range l.remove(settings) {
		select {
		case <-s.ended: // a file can be opened again
		case <-time.After(confirmTimeout):
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || settings == l.settings {
		return
	}
	for _, s := range l.sinks {
		s.configure(settings)
	}
	added := l.newSinks(settings)
	l.sinks, l.settings = append(l.sinks, added...), settings
	slices.SortFunc(l.sinks, func(a, b *sink) int { return slices.Index(sinkNames, a.name) - slices.Index(sinkNames, b.name) })
	if len(l.sinks) == 0 {
		return
	}
	start := &audit.Start{Version: l.options.Version, Host: l.options.Host}
	for _, s := range l.sinks {
		start.Sinks = append(start.Sinks, s.name)
	}
	for _, s := range added {
		previous, err := s.open()
		switch {
		case err != nil:
			s.lose(l.seq+1, 0, err)
		case previous != nil:
			start.Previous = &previous.Head
			l.notBefore(previous.time)
		}
	}
	l.append(audit.Record{Type: audit.Started, Outcome: audit.Success, Start: start}, nil)
}

// remove ends the sinks that the settings do not have, and returns them.
func (l *Log) remove(settings Settings) (removed []*sink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kept []*sink
	for _, s := range l.sinks {
		if s.of(settings) == s.of(l.settings) {
			kept = append(kept, s)
			continue
		}
		s.close()
		removed = append(removed, s)
	}
	l.sinks = kept
	return removed
}

// newSinks returns the sinks of the settings that the log does not have yet.
func (l *Log) newSinks(settings Settings) (added []*sink) {
	for _, s := range []*sink{newStdout(), newFile(l.rotated), newWebhook()} {
		if s.of(settings) == "" || l.sink(s.name) != nil {
			continue
		}
		s.configure(settings)
		s.start(l.options.Reporter, l.options.Clock)
		added = append(added, s)
	}
	return added
}

// Append writes a record later. It does not wait.
func (l *Log) Append(r audit.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.append(r, nil)
}

// Write writes a record and waits until the file has it on disk. Without the sink "file" it
// does not wait. An error wraps audit.ErrNotWritten; there is none unless the settings say Block.
func (l *Log) Write(ctx context.Context, r audit.Record) error {
	done := make(chan error, 1)
	l.mu.Lock()
	file, block := l.sink(fileSink), l.settings.Block
	l.append(r, done)
	l.mu.Unlock()
	if file == nil {
		return nil
	}
	err := file.confirm(ctx, done, block)
	if err != nil && block {
		return fmt.Errorf("%w: %w", audit.ErrNotWritten, err)
	}
	return nil
}

func (l *Log) sink(name string) *sink {
	if i := slices.IndexFunc(l.sinks, func(s *sink) bool { return s.name == name }); i >= 0 {
		return l.sinks[i]
	}
	return nil
}

// append adds a record to the chain and hands it to the sinks. done gets the answer of the
// file.
func (l *Log) append(r audit.Record, done chan error) {
	if l.closed || len(l.sinks) == 0 {
		return
	}
	r.Stream, r.Seq, r.Time = l.stream, l.seq+1, l.now()
	if l.seq > 0 {
		r.Prev = l.head.String()
	}
	if l.options.Actor != "" {
		r.Actor = &audit.User{User: l.options.Actor}
	}
	line, err := audit.Encode(r)
	if err != nil { // a record has only texts and numbers, which are bounded
		l.options.Reporter.AuditFailed("", err)
		return
	}
	l.seq, l.head = r.Seq, audit.HashOf(line)
	e := entry{seq: r.Seq, line: append(line, '\n'), record: &r}
	for _, s := range l.sinks {
		e.done = nil
		if s.name == fileSink {
			e.done = done
		}
		s.offer(e)
	}
	l.count(r.Type)
}

// count asks for a checkpoint when one is due.
func (l *Log) count(t audit.Type) {
	if t == audit.CheckpointMade {
		return
	}
	if l.uncovered++; l.uncovered == 1 {
		l.since = l.last
	}
	if l.uncovered >= maxUncovered {
		l.ask(audit.EnoughRecords)
	}
}

// rotated is called by the file.
func (l *Log) rotated() { l.ask(audit.FileRotated) }

func (l *Log) ask(reason audit.CheckpointReason) {
	select {
	case l.due <- reason:
	default: // one is being made
	}
}

// now returns the time of the next record.
func (l *Log) now() time.Time {
	l.notBefore(l.options.Clock.Now().UTC().Truncate(time.Microsecond))
	return l.last
}

// notBefore makes the time of the next record not earlier than t.
func (l *Log) notBefore(t time.Time) {
	if t.After(l.last) {
		l.last = t
	}
}

// run makes what is due until the log is closed.
func (l *Log) run(ctx context.Context) {
	defer close(l.stopped)
	ticker := l.options.Clock.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case reason := <-l.due:
			l.checkpoint(ctx, reason)
		case <-ticker.C():
			l.resume()
			if l.intervalEnded() {
				l.checkpoint(ctx, audit.EnoughTime)
			}
		}
	}
}

func (l *Log) intervalEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.uncovered > 0 && l.options.Clock.Since(l.since) >= maxInterval
}

// checkpoint signs the newest record. Records that are written meanwhile come before the
// checkpoint.
func (l *Log) checkpoint(ctx context.Context, reason audit.CheckpointReason) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	l.mu.Lock()
	if l.seq == 0 || l.uncovered == 0 && reason != audit.Shutdown {
		l.mu.Unlock()
		return
	}
	c := audit.Checkpoint{Reason: reason, Head: audit.Head{Stream: l.stream, Seq: l.seq, Hash: l.head.String()}}
	l.uncovered = 0
	l.mu.Unlock()
	made := c.Sign(ctx, l.options.Key)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seq-c.Head.Seq >= audit.MaxCheckpointDistance {
		l.ask(reason) // the signature took too long
		l.uncovered = max(l.uncovered, 1)
		return
	}
	l.append(made, nil)
}

// resume writes the records with which sinks that have lost records begin again.
func (l *Log) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	for _, s := range l.sinks {
		first, due := s.resumable()
		if !due {
			continue
		}
		previous, err := s.open()
		if err != nil {
			s.lose(first, 0, err)
			continue
		}
		gap := &audit.Gap{Sink: s.name, First: first, Lost: l.seq + 1 - first}
		if previous != nil {
			gap.Previous = &previous.Head
			l.notBefore(previous.time)
		}
		l.append(audit.Record{Type: audit.RecordsLost, Outcome: audit.Failure, Gap: gap}, nil)
	}
}

// Close writes the last checkpoint and waits until the sinks have their records, or the
// context ends.
func (l *Log) Close(ctx context.Context) {
	l.stop()
	<-l.stopped
	l.checkpoint(ctx, audit.Shutdown)
	l.mu.Lock()
	sinks := l.sinks
	l.closed, l.sinks = true, nil
	l.mu.Unlock()
	for _, s := range sinks {
		s.close()
	}
	for _, s := range sinks {
		select {
		case <-s.ended:
		case <-ctx.Done():
			return
		}
	}
}
