// SPDX-License-Identifier: Apache-2.0

// Package observe reports what the controller does. Emit is the one place where a
// fact becomes an Event, a log line, a metric and an audit record.
package observe

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/audit"
)

// Fact is one thing that happened. The types of facts are in facts.go.
type Fact interface{ report() report }

// report is what becomes of a fact. The zero value of each field means: nothing.
type report struct {
	about *corev1.ObjectReference // of the Event
	event Event
	log   logLine
	count counted
	// bounded are counters with labels that come from users.
	bounded []counted
	gauges  map[gauge]bool // true: 1, false: 0
	took    []measured
	audit   audit.Record
	// verified is a verdict for reports.
	verified *Verified
}

// measured is one duration of a distribution.
type measured struct {
	histogram  histogram
	duration   time.Duration
	attributes []attribute.KeyValue
}

// logLine is one structured log line.
type logLine struct {
	level         zapcore.Level
	message       string
	keysAndValues []any
}

// counted increments one counter by one.
type counted struct {
	counter    counter
	attributes []attribute.KeyValue
}

// Emitter emits facts.
type Emitter struct {
	events  recorder
	metrics *metrics
	readers readers
	audit   auditLog // nil for none
	reports verdicts // nil for none
	// background has the logger for facts about the audit log, which no work is about.
	background context.Context //nolint:containedctx // only for its logger
}

// recorder posts Events. It does not wait.
type recorder interface {
	Record(ctx context.Context, about *corev1.ObjectReference, event Event)
}

var _ recorder = (*Events)(nil)

// NewEmitter returns an Emitter that posts Events through a recorder and counts
// with the global meter provider.
func NewEmitter(events recorder) (*Emitter, error) {
	m, err := newMetrics()
	if err != nil {
		return nil, err
	}
	e := &Emitter{events: events, metrics: m}
	return e, e.observeStates()
}

// Emit reports a fact as Event, log line, metric and audit record, and a verdict also for
// reports. It does not wait.
func (e *Emitter) Emit(ctx context.Context, f Fact) {
	r := f.report()
	if r.event.Reason != "" {
		e.events.Record(ctx, r.about, r.event)
	}
	if r.log.message != "" {
		logging.FromContext(ctx).Logw(r.log.level, r.log.message, r.log.keysAndValues...)
	}
	if r.count.counter != "" {
		e.metrics.counters[r.count.counter].Add(ctx, 1, metric.WithAttributes(r.count.attributes...))
	}
	if r.audit.Type != "" && e.audit != nil {
		e.audit.Append(traced(ctx, r.audit))
	}
	if r.verified != nil && e.reports != nil {
		e.reports.Add(ctx, *r.verified)
	}
	for _, c := range r.bounded {
		e.metrics.counters[c.counter].Add(ctx, 1, metric.WithAttributes(e.metrics.series.bounded(c)...))
	}
	for _, m := range r.took {
		e.metrics.histograms[m.histogram].Record(ctx, m.duration.Seconds(), metric.WithAttributes(m.attributes...))
	}
	for name, value := range r.gauges {
		e.metrics.gauges[name].Record(ctx, number(value))
	}
}

func number(value bool) int64 {
	if value {
		return 1
	}
	return 0
}
