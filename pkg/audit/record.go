// SPDX-License-Identifier: Apache-2.0

// Package audit is the format of the audit log: records, the chain of their hashes,
// signed checkpoints, and the verification of files with records. The package auditlog
// writes records.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

const (
	// Schema names the version of docs/audit.schema.json that records follow.
	Schema = "trustedresources.tekton.dev/audit/v1"
	// Logger tells records from other lines of the same output.
	Logger = "audit"
	// MaxLine bounds a record, in bytes without the newline. Container runtimes split longer
	// lines.
	MaxLine = 15 << 10
)

// ErrNotWritten means that the audit log cannot be written, and that the configuration asks
// to sign nothing then.
var ErrNotWritten = errors.New("the audit log cannot be written, and trustedresources.audit.on-failure is block, so nothing is signed; " +
	"repair the file, or set trustedresources.audit.on-failure to continue")

// Type is the type of a record.
type Type string

// The types of records.
const (
	ResourceSigning              Type = "resource.signing"
	ResourceSigned               Type = "resource.signed"
	ResourceSignFailed           Type = "resource.sign-failed"
	ResourceStored               Type = "resource.stored"
	ResourceRestoredEarlierState Type = "resource.restored-earlier-state"
	Verification                 Type = "verification"
	VerificationDiffers          Type = "verification.differs"
	RunReleased                  Type = "run.released"
	RunRefused                   Type = "run.refused"
	KeyActivated                 Type = "key.activated"
	KeyRetired                   Type = "key.retired"
	KeyRevoked                   Type = "key.revoked"
	ConfigLoaded                 Type = "config.loaded"
	ConfigRefused                Type = "config.refused"
	PolicyChanged                Type = "policy.changed"
	Started                      Type = "audit.started"
	CheckpointMade               Type = "audit.checkpoint"
	RecordsLost                  Type = "audit.gap"
)

// Outcome says how something ended.
type Outcome string

// The outcomes.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	// Unknown means that the API server has not answered, or that nothing was decided.
	Unknown Outcome = "unknown"
)

// Record is one line of the audit log. A record has no spec, no parameters, no content of
// Secrets, and no signature of a resource.
type Record struct {
	Logger string `json:"logger"`
	Schema string `json:"schema"`
	// ID is the same for records that say the same, and the hex SHA-256 of IdentityOf.
	ID string `json:"id"`
	// Stream is one process. Seq counts the records of a stream, beginning with 1.
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
	// Prev is the hash of the line before in the stream; empty in the first record.
	Prev string `json:"prev,omitempty"`
	// Time is in UTC. It never decreases in a stream, nor in the files of one place.
	Time    time.Time `json:"time"`
	Type    Type      `json:"type"`
	Outcome Outcome   `json:"outcome,omitempty"`
	Actor   *User     `json:"actor,omitempty"`
	// RequestedBy is the user who made or approved the content of the object.
	RequestedBy *User `json:"requestedBy,omitempty"`
	// Attempt is the same in an intent and its outcome. The patch of the resource has it as
	// header Audit-ID, so that the audit log of the API server has it, too.
	Attempt string  `json:"attempt,omitempty"`
	Object  *Object `json:"object,omitempty"`
	Run     *Object `json:"run,omitempty"`
	Policy  *Policy `json:"policy,omitempty"`
	Why     *Why    `json:"why,omitempty"`
	KeyID   string  `json:"keyId,omitempty"`
	// Result is that of a verification: PASSED, FAILED or SKIPPED.
	Result string `json:"result,omitempty"`
	// Reference is a bundle in a registry, by digest.
	Reference  string         `json:"reference,omitempty"`
	DurationMs float64        `json:"durationMs,omitempty"`
	Start      *Start         `json:"start,omitempty"`
	Checkpoint *Checkpoint    `json:"checkpoint,omitempty"`
	DSSE       *dsse.Envelope `json:"dsse,omitempty"`
	Gap        *Gap           `json:"gap,omitempty"`
	// Shortened names the fields that were too long.
	Shortened []string `json:"shortened,omitempty"`
	// TraceID is the trace during which something happened.
	TraceID string `json:"traceId,omitempty"`
}

// User is a user of the API server.
type User struct {
	User string `json:"user"`
	// Basis says why the name can be relied upon.
	Basis string `json:"basis,omitempty"`
}

// SignedAnnotation is the basis of a requester: the signature covers the annotation with
// the name.
const SignedAnnotation = "signed-annotation"

// Object is an object of the cluster.
type Object struct {
	APIVersion      string `json:"apiVersion,omitempty"`
	Kind            string `json:"kind"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name"`
	UID             string `json:"uid,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// Checksum is "sha256:" and Tekton's checksum in hex.
	Checksum string `json:"checksum,omitempty"`
}

// Policy is the policy that decided.
type Policy struct {
	Namespace string `json:"namespace,omitempty"` // empty for a ClusterVerificationPolicy
	Name      string `json:"name"`
	Mode      string `json:"mode,omitempty"`
}

// Why says why something happened.
type Why struct {
	Reason        string `json:"reason,omitempty"`
	Message       string `json:"message,omitempty"`
	PreviousKeyID string `json:"previousKeyId,omitempty"`
}

// Head is a record and its hash.
type Head struct {
	Stream string `json:"stream"`
	Seq    uint64 `json:"seq"`
	// Hash is "sha256:" and the hash of the line in hex.
	Hash string `json:"hash"`
}

// Start is in records of type Started. From there on, records go to Sinks.
type Start struct {
	Version string   `json:"version"`
	Host    string   `json:"host,omitempty"` // the name of the Pod
	Sinks   []string `json:"sinks"`
	// Previous is the last record that was in the file before.
	Previous *Head `json:"previous,omitempty"`
}

// Gap is in records of type RecordsLost: a sink has none of the records from First up to
// the one before this record.
type Gap struct {
	Sink  string `json:"sink"`
	First uint64 `json:"first"`
	Lost  uint64 `json:"lost"`
	// Previous is the last record that was in the file before, for the sink "file".
	Previous *Head `json:"previous,omitempty"`
}

// IdentityOf returns the ID of a record that consists of these parts.
func IdentityOf(t Type, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{string(t)}, parts...), "\x00")))
	return hex.EncodeToString(sum[:])
}

// Hash is the hash of a line.
type Hash [sha256.Size]byte

// HashOf returns the hash of a line without its newline.
func HashOf(line []byte) Hash { return sha256.Sum256(line) }

// String returns the form that records have.
func (h Hash) String() string { return "sha256:" + hex.EncodeToString(h[:]) }

// Parse reads a line. The error says what the line has instead of a record.
func Parse(line []byte) (*Record, error) {
	if len(line) > MaxLine {
		return nil, fmt.Errorf("found %d bytes, expected a record of at most %d", len(line), MaxLine)
	}
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("expected a record in JSON: %w", err)
	}
	switch {
	case r.Logger != Logger, r.Schema != Schema:
		return nil, fmt.Errorf("found schema %q of logger %q, expected %q of %q", bounded(r.Schema), bounded(r.Logger), Schema, Logger)
	case r.Stream == "" || r.Seq == 0 || r.Type == "":
		return nil, fmt.Errorf("found stream %q, seq %d and type %q; expected a value for each", bounded(r.Stream), r.Seq, bounded(string(r.Type)))
	}
	return &r, nil
}

// identified completes the ID of records that say something about the log itself.
func (r *Record) identified() {
	if r.ID == "" {
		r.ID = IdentityOf(r.Type, r.Stream, strconv.FormatUint(r.Seq, 10))
	}
}

const maxQuoted = 64

func bounded(text string) string {
	if len(text) > maxQuoted {
		return strings.ToValidUTF8(text[:maxQuoted], "") + ellipsis
	}
	return text
}
