// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"net/http"
	"sync"

	"knative.dev/pkg/injection"
)

// readiness answers the probes. The webhook is ready when all conditions hold.
type readiness struct {
	mu         sync.Mutex
	conditions []func() bool
}

func (r *readiness) when(conditions ...func() bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conditions = append(r.conditions, conditions...)
}

func (r *readiness) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, holds := range r.conditions {
		if !holds() {
			return false
		}
	}
	return len(r.conditions) > 0
}

func (r *readiness) serve(ctx context.Context, port int) error {
	return injection.ServeHealthProbes(injection.AddReadiness(ctx, func(w http.ResponseWriter, _ *http.Request) {
		if ctx.Err() != nil || !r.ready() {
			http.Error(w, "starting or ending", http.StatusServiceUnavailable)
		}
	}), port)
}
