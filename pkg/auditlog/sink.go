// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/audit"
)

// Names of the sinks, as the setting has them.
const (
	stdoutSink  = "stdout"
	fileSink    = "file"
	webhookSink = "webhook"
)

var sinkNames = []string{stdoutSink, fileSink, webhookSink}

const (
	// maxQueue bounds the records that wait for a sink.
	maxQueue = 4096
	// maxBatch and maxDelay bound what is written at once, and how long a record waits for
	// others.
	maxBatch = 256
	maxDelay = 20 * time.Millisecond
	// firstPause and maxPause bound the time after which a sink that has lost records is
	// tried again. The time doubles each time.
	firstPause = time.Second
	maxPause   = time.Minute
)

var (
	errSlow = errors.New("the sink does not keep up")
	errLate = errors.New("the disk has not confirmed the record in time")
)

// entry is a record on its way to a sink.
type entry struct {
	seq    uint64
	line   []byte // with its newline
	record *audit.Record
	// done gets the answer of the sink; nil if nobody waits.
	done chan error
}

func (e entry) answer(err error) {
	if e.done != nil {
		e.done <- err
	}
}

// place is where a sink writes.
type place interface {
	// configure sets what can change while the place is open.
	configure(settings Settings)
	// open is called before the first write, and again after an error. It returns the last
	// record that is there, or nil.
	open() (*tail, error)
	write(batch []entry) error
	close() error
}

// tail is the last record of a file.
type tail struct {
	audit.Head

	time time.Time
}

// sink hands records to a place in order. After a loss, a sink takes nothing before the
// audit.gap that names what was lost.
type sink struct {
	name string
	// of returns what makes a sink another sink.
	of func(Settings) string
	place
	delay time.Duration // how long a record may wait for others
	most  int           // how many records are written at once

	queue    chan entry
	ended    chan struct{}
	reporter Reporter
	clock    clock.PassiveClock
	late     atomic.Bool  // a write has not ended in time
	pending  atomic.Int64 // records in the queue and in the write that is in progress

	mu     sync.Mutex // guards the fields below
	losing bool
	first  uint64 // the first record that was lost
	pause  time.Duration
	again  time.Time
}

// start makes the sink write.
func (s *sink) start(reporter Reporter, clock clock.PassiveClock) {
	s.reporter, s.clock, s.queue, s.ended = reporter, clock, make(chan entry, maxQueue), make(chan struct{})
	go s.run()
}

// offer adds a record to the queue. It does not wait. Calls come one after another.
func (s *sink) offer(e entry) {
	if s.isLost(e, true) {
		e.answer(errSlow)
		s.reporter.AuditRecords(s.name, Dropped, 1)
		return
	}
	s.pending.Add(1)
	select {
	case s.queue <- e:
	default:
		s.pending.Add(-1)
		s.lose(e.seq, 1, errSlow)
		e.answer(errSlow)
	}
}

// close ends the sink after the records in the queue. offer must not be called any more.
func (s *sink) close() { close(s.queue) }

// isLost reports whether the sink may not have a record because it has lost an earlier
// one. With the audit.gap that names all that were lost, the sink begins again.
func (s *sink) isLost(e entry, offered bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.losing {
		return false
	}
	gap := e.record.Gap
	if gap == nil || gap.Sink != s.name || gap.First > s.first {
		return true
	}
	if offered {
		s.losing = false
	}
	return false
}

// lose notes that records beginning with first are lost.
func (s *sink) lose(first uint64, records int, err error) {
	s.mu.Lock()
	began := !s.losing
	if began {
		s.losing, s.first = true, first
	}
	s.first = min(s.first, first)
	s.pause = min(max(2*s.pause, firstPause), maxPause)
	s.again = s.clock.Now().Add(s.pause)
	s.mu.Unlock()
	outcome := Failed
	if errors.Is(err, errSlow) {
		outcome = Dropped
	}
	s.reporter.AuditRecords(s.name, outcome, records)
	if began {
		s.reporter.AuditFailed(s.name, err)
	}
}

// resumable returns the first lost record if the sink may be tried again. The place is not
// in use then.
func (s *sink) resumable() (first uint64, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, s.losing && !s.clock.Now().Before(s.again) && s.pending.Load() == 0
}

// run writes batches until the queue is closed.
func (s *sink) run() {
	defer close(s.ended)
	for e := range s.queue {
		batch, closed := s.gather(e)
		s.writeBatch(batch)
		s.pending.Add(-int64(len(batch)))
		if closed {
			break
		}
	}
	if err := s.place.close(); err != nil {
		s.reporter.AuditFailed(s.name, err)
	}
}

// gather returns a batch that begins with a record. A record that somebody waits for, waits
// for no others than those in the queue.
func (s *sink) gather(first entry) (batch []entry, closed bool) {
	batch = []entry{first}
	timer := time.NewTimer(s.delay)
	defer timer.Stop()
	waited := first.done != nil
	for len(batch) < s.most {
		if waited {
			select {
			case e, ok := <-s.queue:
				if !ok {
					return batch, true
				}
				batch = append(batch, e)
				continue
			default:
				return batch, false
			}
		}
		select {
		case e, ok := <-s.queue:
			if !ok {
				return batch, true
			}
			batch, waited = append(batch, e), e.done != nil
		case <-timer.C:
			return batch, false
		}
	}
	return batch, false
}

func (s *sink) writeBatch(batch []entry) {
	kept := batch[:0:0]
	for _, e := range batch {
		if s.isLost(e, false) {
			e.answer(errSlow)
			s.reporter.AuditRecords(s.name, Failed, 1)
			continue
		}
		kept = append(kept, e)
	}
	if len(kept) == 0 {
		return
	}
	err := s.write(kept)
	s.late.Store(false)
	if err != nil {
		s.lose(kept[0].seq, len(kept), err)
	} else {
		s.wrote(len(kept))
	}
	for _, e := range kept {
		e.answer(err)
	}
}

func (s *sink) wrote(records int) {
	s.mu.Lock()
	if !s.losing {
		s.pause = 0
	}
	s.mu.Unlock()
	s.reporter.AuditRecords(s.name, Written, records)
}

// confirm waits until a record is on disk. While the disk is late, only those wait who
// need the answer.
func (s *sink) confirm(ctx context.Context, done <-chan error, needed bool) error {
	if s.late.Load() && !needed {
		return nil
	}
	timer := time.NewTimer(confirmTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		s.late.Store(true)
		return errLate
	case <-ctx.Done():
		return ctx.Err()
	}
}
