package environment

import (
	"context"
	"net/http"
	"sync/atomic"

	"knative.dev/pkg/configmap"
	"knative.dev/pkg/injection"
)

// Source makes the environment when it is first asked for.
type Source struct {
	options Options
	made    atomic.Pointer[Environment]
}

// Shared is a Source of one environment.
func Shared(options Options) *Source { return &Source{options: options} }

// Get is for the constructors of controllers: knative calls them one after the
// other, with what the environment is made of in the context.
func (s *Source) Get(ctx context.Context, cmw configmap.Watcher) *Environment {
	if s.made.Load() == nil {
		s.made.Store(newEnvironment(ctx, cmw, s.options))
	}
	return s.made.Load()
}

// ServeProbes serves /health and /readiness until the context ends. The
// controller is ready once it has seen all that is in the cluster: an earlier
// one is kept until then, so that no run begins unseen during an upgrade.
func (s *Source) ServeProbes(ctx context.Context, port int) error {
	return injection.ServeHealthProbes(injection.AddReadiness(ctx, func(w http.ResponseWriter, _ *http.Request) {
		if ctx.Err() != nil || !s.ready() {
			http.Error(w, "starting or ending", http.StatusServiceUnavailable)
		}
	}), port)
}

// ready says whether all handlers have been told of what was there at first.
// None has before knative starts the informers, after the last constructor.
func (s *Source) ready() bool {
	env := s.made.Load()
	if env == nil {
		return false
	}
	env.mu.RLock()
	defer env.mu.RUnlock()
	for _, synced := range env.synced {
		if !synced() {
			return false
		}
	}
	return true
}
