// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"
)

const (
	// maxUnsigned and maxUnsignedTime bound the records, and the time between two records,
	// without a signed checkpoint. The controller makes one after 1,000 records or a minute.
	maxUnsigned     = 20_000
	maxUnsignedTime = 3 * time.Minute
	// maxMissing bounds the ranges of missing records of a stream that may still come.
	maxMissing = 1000
	// maxStreams and maxIntents bound the memory for what hostile files have.
	maxStreams = 100_000
	maxIntents = 1_000_000
)

var errTooMuch = fmt.Errorf("the files have more than %d streams or %d intents without an outcome; verify fewer files at once", maxStreams, maxIntents)

// at is the place of a line.
type at struct {
	file string
	line int
}

// verifier reads records in the order in which they were written.
type verifier struct {
	ctx     context.Context //nolint:containedctx // lives as long as one call of Verify
	options Options
	report  *Report
	streams map[string]*chain
	order   []*chain // in the order of their first records
	intents map[string]*Intent

	in        *input
	beginning bool // no record of the file was read yet
	// broken is a line that may be the last one of a killed process.
	broken   *at
	brokenBy error
	headSeen bool
}

// chain is what was read of one stream.
type chain struct {
	Stream

	at   at // the last record
	hash Hash
	time time.Time
	// hashes are those of the last MaxCheckpointDistance records. The record with a number is
	// at the remainder of its division by the length. Empty after the end of the stream.
	hashes  []numbered
	missing []missing
	// unsigned counts the records since the last signed checkpoint; since is the time of the
	// first of them.
	unsigned int
	since    time.Time
}

// numbered is the hash of a record; the zero value is none.
type numbered struct {
	seq  uint64
	hash Hash
}

// missing is a range of records that were not read where they should be.
type missing struct {
	first, last uint64
	at          at // of the record after them
}

func (v *verifier) find(p Problem, where at, stream string, seq uint64, expected, found, format string, args ...any) {
	v.report.FindingsInAll++
	if len(v.report.Findings) < MaxFindings {
		v.report.Findings = append(v.report.Findings, Finding{p, where.file, where.line, stream, seq, expected, found, fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) note(p Problem, where at, stream string, seq uint64, format string, args ...any) {
	if len(v.report.Notes) < MaxFindings {
		v.report.Notes = append(v.report.Notes, Finding{
			Problem: p, File: where.file, Line: where.line, Stream: stream, Seq: seq, Message: fmt.Sprintf(format, args...),
		})
	}
}

func (v *verifier) beginFile(in *input) {
	v.in, v.beginning = in, true
	if in.expected != "" {
		v.find(Swapped, at{in.Name, 0}, "", 0, in.expected, in.Name,
			"the file has records that belong into %s: the names of rotated files have the times at which they were rotated", in.expected)
	}
}

func (v *verifier) file(in *input) error {
	for {
		line, err := in.next()
		where := at{in.Name, in.line}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, errLong) && !errors.Is(err, errEnded):
			return err
		}
		var r *Record
		if !errors.Is(err, errLong) {
			parsed, parseErr := Parse(line)
			if r = parsed; parseErr != nil {
				err = errors.Join(err, parseErr)
			}
		}
		if r == nil {
			v.unreadable()
			v.broken, v.brokenBy = &where, err
			continue
		}
		v.afterBroken(r)
		if err := v.record(r, HashOf(line), where); err != nil {
			return err
		}
		v.beginning = false
	}
}

// unreadable reports a line that was no record.
func (v *verifier) unreadable() {
	if v.broken != nil {
		v.find(Unreadable, *v.broken, "", 0, "", "", "the line is no record: %v", v.brokenBy)
		v.broken = nil
	}
}

// afterBroken decides about a line that was no record. The next process begins a stream
// after the line that a killed process could not end.
func (v *verifier) afterBroken(r *Record) {
	if v.broken == nil || previousOf(r) == nil && r.Type != Started {
		v.unreadable()
		return
	}
	v.note(Interrupted, *v.broken, "", 0, "a process was killed while it wrote the line; stream %s continues", r.Stream)
	v.broken = nil
}

// previousOf returns the last record that was in the file when its process opened it.
func previousOf(r *Record) *Head {
	switch {
	case r.Start != nil:
		return r.Start.Previous
	case r.Gap != nil:
		return r.Gap.Previous
	}
	return nil
}

func (v *verifier) record(r *Record, hash Hash, where at) error {
	v.report.Records++
	c := v.streams[r.Stream]
	v.succeed(r, c, where)
	switch {
	case c == nil:
		if len(v.order) >= maxStreams {
			return errTooMuch
		}
		c = v.begin(r, where)
	case r.Seq <= c.Last:
		v.again(c, r, hash, where)
		return nil
	default:
		v.follow(c, r, where)
	}
	c.Last, c.hash, c.at, c.time = r.Seq, hash, where, r.Time
	c.remember(r.Seq, hash)
	v.expectHead(r, hash)
	v.checkpoint(c, r, where)
	return v.intent(r)
}

// begin makes the chain of a stream.
func (v *verifier) begin(r *Record, where at) *chain {
	c := &chain{Stream: Stream{Stream: r.Stream, First: r.Seq, Ended: NotEnded}}
	v.streams[r.Stream], v.order = c, append(v.order, c)
	isGap := r.Gap != nil && r.Gap.First == 1
	switch {
	case r.Type == Started:
		// The sink was added to a process that had others.
	case isGap:
		v.note(Lost, where, r.Stream, r.Seq, "records 1 to %d could not be written, says the record", r.Seq-1)
	case v.beginning && v.in.oldest:
		v.note(Before, where, r.Stream, r.Seq, "records before %d are in none of the files", r.Seq)
	default:
		v.find(Removed, where, r.Stream, r.Seq, "1", strconv.FormatUint(r.Seq, 10), "the stream does not begin with %s: records before %d were removed", Started, r.Seq)
	}
	return c
}

// succeed checks the end of the stream that a record says it continues.
func (v *verifier) succeed(r *Record, c *chain, where at) {
	previous := previousOf(r)
	if previous == nil || previous.Stream == r.Stream {
		return
	}
	before := v.streams[previous.Stream]
	switch {
	case before == nil && v.beginning && v.in.oldest:
		v.note(Before, where, previous.Stream, previous.Seq, "the records of the stream up to %d are in none of the files", previous.Seq)
	case before == nil:
		v.find(Removed, where, previous.Stream, previous.Seq, previous.Hash, "", "the whole stream was removed, up to record %d", previous.Seq)
	case before.Last < previous.Seq:
		v.find(Truncated, before.at, before.Stream.Stream, before.Last, strconv.FormatUint(previous.Seq, 10), strconv.FormatUint(before.Last, 10),
			"the records %d to %d were removed from the end of the stream; %s:%d names them", before.Last+1, previous.Seq, where.file, where.line)
	case before.Last > previous.Seq || before.hash.String() != previous.Hash:
		v.find(Changed, before.at, before.Stream.Stream, before.Last, previous.Hash, before.hash.String(),
			"the last record of the stream is another one than %s:%d names (record %d)", where.file, where.line, previous.Seq)
	}
	if before != nil && c == nil {
		before.close(EndedBySuccessor)
	}
}

// follow checks that a record comes after the last one of its stream.
func (v *verifier) follow(c *chain, r *Record, where at) {
	if c.Ended == EndedByShutdown {
		v.find(Reordered, where, r.Stream, r.Seq, "", "", "the record comes after the checkpoint of the shutdown")
	}
	if r.Seq == c.Last+1 {
		if r.Prev != c.hash.String() {
			v.find(Changed, c.at, r.Stream, c.Last, boundedHash(r.Prev), c.hash.String(), "the record has another hash than record %d (%s:%d) names", r.Seq, where.file, where.line)
		}
		if r.Time.Before(c.time) {
			v.find(Changed, where, r.Stream, r.Seq, "", "", "the time is before that of the record before")
		}
		return
	}
	first, last := c.Last+1, r.Seq-1
	previous := previousOf(r)
	switch {
	case r.Gap != nil && r.Gap.First == first:
		v.note(Lost, where, r.Stream, r.Seq, "records %d to %d could not be written to %s, says the record", first, last, bounded(r.Gap.Sink))
	case r.Type == Started && previous != nil && previous.Stream == r.Stream && previous.Seq == c.Last && previous.Hash == c.hash.String():
		v.note(Paused, where, r.Stream, r.Seq, "records %d to %d were not written to the file, because it was not among the sinks", first, last)
	case len(c.missing) >= maxMissing:
		v.missing(c, missing{first, last, where})
	default:
		c.missing = append(c.missing, missing{first, last, where})
	}
}

const hashLength = len("sha256:") + 2*len(Hash{})

// boundedHash bounds a hash in a finding.
func boundedHash(hash string) string { return hash[:min(len(hash), hashLength)] }

func (v *verifier) missing(c *chain, m missing) {
	v.find(Removed, m.at, c.Stream.Stream, m.first, strconv.FormatUint(m.first, 10), strconv.FormatUint(m.last+1, 10),
		"%s removed before record %d", records(m.first, m.last), m.last+1)
}

func records(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("record %d was", first)
	}
	return fmt.Sprintf("records %d to %d were", first, last)
}

// again decides about a record whose number is not above the last one of its stream.
func (v *verifier) again(c *chain, r *Record, hash Hash, where at) {
	i := slices.IndexFunc(c.missing, func(m missing) bool { return m.first <= r.Seq && r.Seq <= m.last })
	if i >= 0 {
		v.find(Reordered, where, r.Stream, r.Seq, strconv.FormatUint(c.Last+1, 10), strconv.FormatUint(r.Seq, 10), "the record comes after record %d (%s:%d)", c.Last, c.at.file, c.at.line)
		m := c.missing[i]
		c.missing = slices.Delete(c.missing, i, i+1)
		for _, rest := range []missing{{m.first, r.Seq - 1, m.at}, {r.Seq + 1, m.last, m.at}} {
			if rest.first <= rest.last {
				c.missing = append(c.missing, rest)
			}
		}
		return
	}
	what := "the record is there twice"
	if known, ok := c.hashOf(r.Seq); ok && known != hash {
		what = "a record with this number and another content is there before"
	}
	v.find(Duplicated, where, r.Stream, r.Seq, strconv.FormatUint(c.Last+1, 10), strconv.FormatUint(r.Seq, 10), "%s", what)
}

func (c *chain) remember(seq uint64, hash Hash) {
	const first = 16
	for length := len(c.hashes); length < MaxCheckpointDistance && seq-c.First >= uint64(length); length = len(c.hashes) {
		larger := make([]numbered, max(first, 2*length))
		for _, n := range c.hashes {
			larger[n.seq%uint64(len(larger))] = n
		}
		c.hashes = larger
	}
	c.hashes[seq%uint64(len(c.hashes))] = numbered{seq, hash}
}

// hashOf returns the hash of one of the last records.
func (c *chain) hashOf(seq uint64) (Hash, bool) {
	if len(c.hashes) == 0 {
		return Hash{}, false
	}
	n := c.hashes[seq%uint64(len(c.hashes))]
	return n.hash, n.seq == seq
}

// close forgets what only an open stream needs.
func (c *chain) close(ended Ended) {
	if c.Ended != EndedByShutdown {
		c.Ended = ended
	}
	c.hashes = nil
}

func (v *verifier) expectHead(r *Record, hash Hash) {
	h := v.options.Head
	if h != nil && r.Seq == h.Seq && (h.Stream == "" || h.Stream == r.Stream) && hash.String() == h.Hash {
		v.headSeen = true
	}
}

// checkpoint checks the checkpoint of a record.
func (v *verifier) checkpoint(c *chain, r *Record, where at) {
	k := r.Checkpoint
	if k == nil {
		v.unsigned(c, r, where)
		return
	}
	c.Checkpoints++
	hash, known := c.hashOf(k.Head.Seq)
	switch {
	case k.Head.Stream != r.Stream, k.Head.Seq >= r.Seq, r.Seq-k.Head.Seq > MaxCheckpointDistance:
		v.find(BadCheckpoint, where, r.Stream, r.Seq, "", "", "the checkpoint names record %d of stream %s", k.Head.Seq, bounded(k.Head.Stream))
	case known && hash.String() != k.Head.Hash:
		v.find(BadCheckpoint, where, r.Stream, k.Head.Seq, boundedHash(k.Head.Hash), hash.String(), "record %d has another hash than its checkpoint names", k.Head.Seq)
	case v.options.Trusted != nil:
		if _, err := verifySignature(v.ctx, r, v.options.Trusted); err != nil {
			v.find(BadCheckpoint, where, r.Stream, r.Seq, "", "", "%v", err)
			break
		}
		c.Signed = k.Head.Seq
		c.unsigned, c.since = int(r.Seq-k.Head.Seq), r.Time //nolint:gosec // at most MaxCheckpointDistance
	}
	if k.Reason == Shutdown {
		c.close(EndedByShutdown)
	}
}

// unsigned reports a stream that goes on for too long without a signed checkpoint: somebody
// who writes a chain anew has no key.
func (v *verifier) unsigned(c *chain, r *Record, where at) {
	if c.unsigned == 0 || c.since.IsZero() {
		c.since = r.Time
	}
	c.unsigned++
	if v.options.Trusted == nil || c.unsigned < maxUnsigned && r.Time.Sub(c.since) < maxUnsignedTime {
		return
	}
	v.find(BadCheckpoint, where, r.Stream, r.Seq, "", "", "no signed checkpoint in %d records and %v", c.unsigned, r.Time.Sub(c.since))
	c.unsigned = 0
}

// end completes the report.
func (v *verifier) end() *Report {
	if v.broken != nil && errors.Is(v.brokenBy, errEnded) {
		v.find(Truncated, *v.broken, "", 0, "", "", "the last line does not end: the end is missing, or the process that wrote it was killed and none has continued the file")
		v.broken = nil
	}
	v.unreadable()
	for _, c := range v.order {
		for _, m := range c.missing {
			v.missing(c, m)
		}
		c.Head = c.hash.String()
		v.report.Streams = append(v.report.Streams, c.Stream)
		if c.Ended != NotEnded {
			continue
		}
		const message = "the stream has no end: the controller runs, or was killed, or records after %d were removed; compare with a copy (--expect-head)"
		if v.options.Stopped {
			v.find(Truncated, c.at, c.Stream.Stream, c.Last, "", "", message, c.Last)
			continue
		}
		v.note(OpenEnd, c.at, c.Stream.Stream, c.Last, message, c.Last)
	}
	if h := v.options.Head; h != nil && !v.headSeen {
		v.find(Truncated, at{}, h.Stream, h.Seq, h.Hash, "", "the files have no record %d with the expected hash: the end was removed or changed", h.Seq)
	}
	for _, i := range v.intents {
		v.report.Intents = append(v.report.Intents, i)
	}
	slices.SortFunc(v.report.Intents, func(a, b *Intent) int { return a.Time.Compare(b.Time) })
	v.report.Verified = v.report.FindingsInAll == 0
	return v.report
}
