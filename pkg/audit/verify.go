// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// Problem is a kind of finding.
type Problem string

// The problems, which show that the log is not as it was written.
const (
	Removed    Problem = "removed"    // records are missing
	Changed    Problem = "changed"    // a record has another hash than the one after it names
	Reordered  Problem = "reordered"  // a record comes after a later one
	Duplicated Problem = "duplicated" // a record is there twice
	Truncated  Problem = "truncated"  // the end of a stream is missing
	Swapped    Problem = "swapped"    // the file has the records of another file
	Unreadable Problem = "unreadable" // a line is no record
	// BadCheckpoint: a checkpoint does not fit the records, or no trusted key signed it.
	BadCheckpoint Problem = "checkpoint"
)

// The notes, which explain what the files have.
const (
	Interrupted Problem = "interrupted" // a process was killed while it wrote the line
	Lost        Problem = "lost"        // the controller says that it could not write the records
	Before      Problem = "before"      // earlier records are in no file
	Paused      Problem = "paused"      // the controller did not write to the file for some time
	OpenEnd     Problem = "open-end"    // the controller runs, was killed, or the end is missing
)

// Finding is a finding or a note.
type Finding struct {
	Problem Problem `json:"problem"`
	File    string  `json:"file,omitempty"`
	Line    int     `json:"line,omitempty"`
	Stream  string  `json:"stream,omitempty"`
	Seq     uint64  `json:"seq,omitempty"`
	// Expected and Found are hashes or numbers of records.
	Expected string `json:"expected,omitempty"`
	Found    string `json:"found,omitempty"`
	Message  string `json:"message"`
}

// Report is the result of a verification.
type Report struct {
	// Verified is true if there are no findings.
	Verified bool `json:"verified"`
	// Files are in the order of their records.
	Files   []string `json:"files"`
	Records int      `json:"records"`
	Streams []Stream `json:"streams"`
	// Findings has at most MaxFindings; FindingsInAll counts all.
	Findings      []Finding `json:"findings"`
	FindingsInAll int       `json:"findingsInAll"`
	Notes         []Finding `json:"notes"`
	// Intents are those without an outcome.
	Intents []*Intent `json:"intents"`
}

// Stream is what the files have of one process.
type Stream struct {
	Stream string `json:"stream"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	// Head is the hash of the last record.
	Head  string `json:"head"`
	Ended Ended  `json:"ended"`
	// Signed is the last record that a checkpoint with a trusted signature covers.
	Signed uint64 `json:"signed"`
	// Checkpoints counts all checkpoints.
	Checkpoints int `json:"checkpoints"`
}

// Ended says how a stream ended.
type Ended string

// The ends of streams.
const (
	EndedByShutdown  Ended = "shutdown"  // the last record is the checkpoint of the shutdown
	EndedBySuccessor Ended = "successor" // the next stream names the last record
	NotEnded         Ended = "open"
)

// Intent is a resource.signing.
type Intent struct {
	Attempt string    `json:"attempt"`
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`
	Seq     uint64    `json:"seq"`
	Object  *Object   `json:"object"`
	KeyID   string    `json:"keyId"`
	// Resolution says what the audit log of the API server has about the attempt.
	Resolution Resolution `json:"resolution,omitempty"`
}

// Resolution is what became of an intent.
type Resolution string

// The resolutions.
const (
	PatchStored  Resolution = "stored"   // the API server stored the signature
	PatchRefused Resolution = "refused"  // the API server refused the patch
	PatchNotSent Resolution = "not-sent" // the API server has no such request
)

// MaxFindings bounds the findings and the notes of a report.
const MaxFindings = 1000

// File is a file with records.
type File struct {
	Name    string
	Content io.Reader
}

// Options are what a verification may rely on.
type Options struct {
	// Trusted has the keys that may have signed checkpoints. Without it, no signature is
	// checked.
	Trusted *keys.Ring
	// Head is a record that was in the log according to somebody else, for example the copy
	// in the standard output; nil for none. Head.Stream may be empty.
	Head *Head
	// Stopped says that the controller does not run any more: a stream without an end is a
	// finding.
	Stopped bool
}

// Verify reads files with records. The order of the files does not matter. It keeps no
// records in memory. The error means that a file cannot be read.
func Verify(ctx context.Context, files []File, o Options) (*Report, error) {
	ordered, err := order(files)
	if err != nil {
		return nil, err
	}
	v := &verifier{
		ctx: ctx, options: o, streams: map[string]*chain{}, intents: map[string]*Intent{},
		report: &Report{Files: []string{}, Streams: []Stream{}, Findings: []Finding{}, Notes: []Finding{}, Intents: []*Intent{}},
	}
	for _, f := range ordered {
		v.report.Files = append(v.report.Files, f.Name)
		v.beginFile(f)
		if err := v.file(f); err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.Name, err)
		}
	}
	return v.end(), nil
}
