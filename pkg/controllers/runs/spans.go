// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"

	"github.com/tektoncd/chains/pkg/chains/objects"
	"github.com/tektoncd/chains/pkg/chains/storage"
	chainsconfig "github.com/tektoncd/chains/pkg/config"

	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// traceOf returns the trace that Tekton has recorded in a run.
func traceOf(run objects.TektonObject) map[string]string {
	switch run := run.(type) {
	case *objects.TaskRunObjectV1:
		return run.Status.SpanContext
	case *objects.PipelineRunObjectV1:
		return run.Status.SpanContext
	}
	return nil
}

// tracedBackend is a storage backend with a span for each write.
type tracedBackend struct{ storage.Backend }

// traced returns the backends with a span for each write.
func traced(backends map[string]storage.Backend) map[string]storage.Backend {
	all := make(map[string]storage.Backend, len(backends))
	for name, backend := range backends {
		all[name] = tracedBackend{backend}
	}
	return all
}

// StorePayload implements storage.Backend.
func (b tracedBackend) StorePayload(ctx context.Context, run objects.TektonObject, payload []byte, signature string, opts chainsconfig.StorageOpts) error {
	about, _ := describe(run)
	ctx, span := observe.StartSpan(ctx, observe.StepStore, about)
	defer span.End()
	span.Set("backend", b.Type())
	return span.Failed(b.Backend.StorePayload(ctx, run, payload, signature, opts))
}
