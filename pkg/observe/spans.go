// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Step is the name of a span: one step of the work on an object.
type Step string

// The steps.
const (
	// StepVerify is the verification of a run.
	StepVerify Step = "verify"
	// StepSign is the attempt to sign a resource, or the attestation of a run.
	StepSign Step = "sign"
	// StepStore is a write of an attestation to one storage backend, or of a resource to the
	// registry.
	StepStore Step = "store"
)

// scope names this module as the origin of metrics and spans.
const scope = "github.com/trusted-resources/chains-extension"

// tracer uses the global provider, which knative configures from config-observability.
var tracer = otel.Tracer(scope)

// InTraceOf returns a context in the trace of a run. spanContext is status.spanContext of the
// run, which is empty if Tekton makes no traces.
func InTraceOf(ctx context.Context, spanContext map[string]string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier(spanContext))
}

// Span is one step in a trace.
type Span struct{ span trace.Span }

// StartSpan begins a step of the work on an object. The caller ends the span.
func StartSpan(ctx context.Context, step Step, about *corev1.ObjectReference) (context.Context, Span) {
	ctx, span := tracer.Start(ctx, string(step), trace.WithAttributes(
		attribute.String("kind", about.Kind), attribute.String("namespace", about.Namespace), attribute.String("name", about.Name),
	))
	return ctx, Span{span}
}

// StartSpanOf is StartSpan for a resource.
func StartSpanOf(ctx context.Context, step Step, r *resource.Summary) (context.Context, Span) {
	return StartSpan(ctx, step, reference(r))
}

// End ends the span. After a panic, the span has no value that the code panicked with.
func (s Span) End() { s.span.End() }

// Set adds an attribute.
func (s Span) Set(name, value string) { s.span.SetAttributes(attribute.String(name, value)) }

// Failed marks the span if err is not nil, and returns err. The span does not get the text
// of the error, which can have a part of a spec.
func (s Span) Failed(err error) error {
	if err != nil {
		s.span.SetStatus(codes.Error, "")
	}
	return err
}

// traceID returns the trace that the context belongs to; empty for none.
func traceID(ctx context.Context) string {
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		return span.TraceID().String()
	}
	return ""
}
