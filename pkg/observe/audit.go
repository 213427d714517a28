// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// auditLog keeps audit records.
type auditLog interface {
	// Append does not wait.
	Append(r audit.Record)
	// Write waits until the record is kept. The error wraps audit.ErrNotWritten.
	Write(ctx context.Context, r audit.Record) error
}

// Audit makes the Emitter keep audit records of facts. It is called before Emit.
func (e *Emitter) Audit(ctx context.Context, log auditLog) { e.background, e.audit = ctx, log }

// Announce reports a fact that is about to happen, and waits until its audit record is kept.
// The error wraps audit.ErrNotWritten: it must not happen.
func (e *Emitter) Announce(ctx context.Context, f Fact) error {
	if e.audit == nil {
		return nil
	}
	return e.audit.Write(ctx, traced(ctx, f.report().audit))
}

// traced adds the trace to a record.
func traced(ctx context.Context, r audit.Record) audit.Record {
	r.TraceID = traceID(ctx)
	return r
}

// AuditRecords counts audit records of a sink.
func (e *Emitter) AuditRecords(sink, outcome string, records int) {
	e.metrics.counters[auditRecords].Add(context.Background(), int64(records), metric.WithAttributes(auditRecordsOf(sink, outcome).attributes...))
}

// AuditFailed reports that a sink of the audit log begins to lose records.
func (e *Emitter) AuditFailed(sink string, err error) {
	e.Emit(e.background, auditNotWritten{sink, err})
}

func auditRecordsOf(sink, outcome string) counted {
	return counted{auditRecords, []attribute.KeyValue{attribute.String("sink", sink), attribute.String("outcome", outcome)}}
}

// auditNotWritten means that a sink begins to lose records.
type auditNotWritten struct {
	sink string
	err  error
}

func (f auditNotWritten) report() report {
	return report{log: logLine{zapcore.ErrorLevel, "Audit log not written", []any{"sink", f.sink, zap.Error(f.err)}}}
}

// Attempt is an attempt to sign a resource.
type Attempt struct {
	ID string // a UUID
	// RequestedBy is the user in the content that is signed; empty if there is none, or if
	// the name cannot be relied upon.
	RequestedBy string
	// PreviousKeyID is the key of the signature that is replaced, if it is one of ours.
	PreviousKeyID string
	// Took is the time for the signature and its patch; zero if that is not known.
	Took time.Duration
}

// Signing means that the controller is about to sign a resource.
type Signing Signed

func (f Signing) report() report {
	return report{audit: Signed(f).record(audit.ResourceSigning, "", string(f.Reason))}
}

// AttemptFailed means that an attempt made no signature, or that the API server did not say
// whether it has the signature.
type AttemptFailed struct {
	Signed

	Err error
	// Sent says that the patch was sent.
	Sent bool
}

func (f AttemptFailed) report() report {
	outcome, reason := f.outcome()
	return report{audit: f.record(audit.ResourceSignFailed, outcome, reason)}
}

// outcome has no text of the error, which can have a part of the spec.
func (f AttemptFailed) outcome() (audit.Outcome, string) {
	if !f.Sent {
		if errors.Is(f.Err, audit.ErrNotWritten) {
			return audit.Failure, v1alpha1.ReasonAuditFailed
		}
		return audit.Failure, v1alpha1.ReasonSignerFailed
	}
	var status apierrors.APIStatus
	if !errors.As(f.Err, &status) {
		return audit.Unknown, "NoAnswer"
	}
	reason := string(status.Status().Reason)
	if status.Status().Code >= http.StatusInternalServerError {
		return audit.Unknown, reason // it may have been stored
	}
	return audit.Failure, reason
}

// recordedError is an error of which there is an audit record.
type recordedError struct{ error }

func (e recordedError) Unwrap() error { return e.error }

// Recorded marks the error of an AttemptFailed, so that NotSigned makes no second record.
func Recorded(err error) error { return recordedError{err} }

func isRecorded(err error) bool {
	_, recorded := errors.AsType[recordedError](err)
	return recorded
}

func (f Signed) record(t audit.Type, outcome audit.Outcome, reason string) audit.Record {
	object := objectOf(f.Resource)
	object.Checksum = "sha256:" + hex.EncodeToString(f.Resource.Checksums.In(f.Dialect))
	return audit.Record{
		ID:   audit.IdentityOf(t, object.UID, object.Checksum, f.KeyID),
		Type: t, Outcome: outcome, Object: object, Attempt: f.Attempt.ID, KeyID: f.KeyID,
		RequestedBy: requesterOf(f.Attempt.RequestedBy),
		Why:         &audit.Why{Reason: reason, PreviousKeyID: f.Attempt.PreviousKeyID},
		DurationMs:  float64(f.Attempt.Took.Microseconds()) / 1000,
	}
}

func requesterOf(user string) *audit.User {
	if user == "" {
		return nil
	}
	return &audit.User{User: user, Basis: audit.SignedAnnotation}
}

func objectOf(r *resource.Summary) *audit.Object { return audited(reference(r)) }

func audited(o *corev1.ObjectReference) *audit.Object {
	return &audit.Object{
		APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name,
		UID: string(o.UID), ResourceVersion: o.ResourceVersion,
	}
}

// about returns a record about a resource.
func about(t audit.Type, r *resource.Summary, outcome audit.Outcome, reason string) audit.Record {
	object := objectOf(r)
	return audit.Record{
		ID:   audit.IdentityOf(t, object.UID, object.ResourceVersion, reason),
		Type: t, Outcome: outcome, Object: object, Why: &audit.Why{Reason: reason},
	}
}

// ofRun returns a record about a run.
func ofRun(t audit.Type, run *corev1.ObjectReference, outcome audit.Outcome, why audit.Why) audit.Record {
	return audit.Record{
		ID: audit.IdentityOf(t, string(run.UID), why.Reason), Type: t, Outcome: outcome, Run: audited(run), Why: &why,
	}
}

// record returns the audit record of a verification.
func (f Verified) record() audit.Record {
	outcome := audit.Unknown
	switch {
	case f.Passed:
		outcome = audit.Success
	case f.Failed:
		outcome = audit.Failure
	}
	r := ofRun(audit.Verification, f.Run, outcome, audit.Why{Reason: f.Reason})
	r.ID = audit.IdentityOf(r.Type, string(f.Run.UID), string(f.Kind), f.Name, f.Checksum, f.Policy, f.Result)
	r.Object = &audit.Object{Kind: string(f.Kind), Namespace: f.Namespace, Name: f.Name, Checksum: f.Checksum}
	r.KeyID, r.Result, r.RequestedBy = f.KeyID, f.Result, requesterOf(f.RequestedBy)
	if f.Policy != "" {
		r.Policy = &audit.Policy{Name: f.Policy, Mode: f.Mode, Namespace: f.PolicyNamespace}
	}
	return r
}

// typesOfStates are the types of records about keys.
var typesOfStates = map[v1alpha1.KeyState]audit.Type{
	v1alpha1.KeyActive: audit.KeyActivated, v1alpha1.KeyRetired: audit.KeyRetired, v1alpha1.KeyRevoked: audit.KeyRevoked,
}

func (f KeyChanged) record() audit.Record {
	t := typesOfStates[f.State] // there is no record of other states
	return audit.Record{
		ID: audit.IdentityOf(t, string(f.KeyRing.UID), f.KeyID), Type: t, Outcome: audit.Success,
		Object: audited(f.KeyRing), KeyID: f.KeyID, Why: &audit.Why{Message: "key " + f.Name},
	}
}

func (f ClusterPolicyReady) record() audit.Record {
	outcome, reason := audit.Success, v1alpha1.ReasonPolicyInForce
	if !f.Ready {
		outcome, reason = audit.Failure, v1alpha1.ReasonPolicyNotInForce
	}
	object := audited(f.Policy)
	return audit.Record{
		ID:   audit.IdentityOf(audit.PolicyChanged, object.UID, object.ResourceVersion, reason),
		Type: audit.PolicyChanged, Outcome: outcome, Object: object, Why: &audit.Why{Reason: reason, Message: f.Why},
	}
}
