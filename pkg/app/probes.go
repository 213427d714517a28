// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"net/http"

	"knative.dev/pkg/injection"
)

// serveProbes serves /health and /readiness until the context ends. The controller
// is ready once its handlers have seen all that is in the cluster. During an
// upgrade Kubernetes keeps the previous replica until then, so that no run begins
// unseen.
func (a *app) serveProbes(ctx context.Context) error {
	return injection.ServeHealthProbes(injection.AddReadiness(ctx, func(w http.ResponseWriter, _ *http.Request) {
		if ctx.Err() != nil || !a.handlers.Synced() {
			http.Error(w, "starting or ending", http.StatusServiceUnavailable)
		}
	}), a.options.HealthPort)
}
