// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	corev1 "k8s.io/api/core/v1"
)

// A span has no text of an error and no value of a panic: both can have a part of a spec.
func TestSpan_HasNoTextOfFailures(t *testing.T) {
	const spec = "echo secret"
	ended := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(ended)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	about := &corev1.ObjectReference{Kind: "Task", Namespace: "ns", Name: "build"}
	step := func(work func() error) error {
		_, span := StartSpan(context.Background(), StepSign, about)
		defer span.End()
		return span.Failed(work())
	}
	if err := step(func() error { return errors.New(spec) }); err == nil {
		t.Error("the error was lost")
	}
	if err := Guard(func() error { return step(func() error { panic(spec) }) }); !errors.Is(err, ErrPanicked) {
		t.Errorf("got %v, want the panic", err)
	}
	if err := step(func() error { return nil }); err != nil {
		t.Error(err)
	}
	spans := ended.Ended()
	if len(spans) != 3 {
		t.Fatalf("%d spans have ended, want 3", len(spans))
	}
	for i, want := range []codes.Code{codes.Error, codes.Unset, codes.Unset} {
		if got := spans[i].Status().Code; got != want {
			t.Errorf("span %d has the status %v, want %v", i, got, want)
		}
		if all := fmt.Sprintf("%+v %+v %+v", spans[i].Status(), spans[i].Events(), spans[i].Attributes()); strings.Contains(all, spec) {
			t.Errorf("span %d has %q: %s", i, spec, all)
		}
	}
}
