// SPDX-License-Identifier: Apache-2.0

// Package registrytest provides an OCI registry for unit tests. The registry
// runs in the process of the test, keeps its content in memory, records the
// requests, and misbehaves as the test wants.
//
// A Fault is one injected misbehaviour. A Rule decides which requests get a
// fault. Package test/harness uses the same words for its proxy, which stands in
// front of a registry that runs as a process of its own. End-to-end tests use
// the proxy; unit tests use this package.
package registrytest

import (
	"bytes"
	"context"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// Server is go-containerregistry's in-memory registry with fault injection.
type Server struct {
	// Host is the host and port, the first part of image references.
	Host string

	referrersAPI bool

	mu       sync.Mutex // guards the fields below
	registry http.Handler
	requests []string
	rule     Rule
}

// New starts a server with the referrers API.
func New(t testing.TB) *Server {
	t.Helper()
	return start(t, true)
}

// NewWithoutReferrers starts a server without the referrers API, as registries
// of the distribution specification 1.0 are.
func NewWithoutReferrers(t testing.TB) *Server {
	t.Helper()
	return start(t, false)
}

func start(t testing.TB, referrersAPI bool) *Server {
	t.Helper()
	s := &Server{referrersAPI: referrersAPI}
	s.Wipe()
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	s.Host = strings.TrimPrefix(server.URL, "http://")
	return s
}

// Wipe deletes the content of the registry.
func (s *Server) Wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registry = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(s.referrersAPI))
}

// Set replaces the rule and restarts the numbering of requests. The rule nil
// lets all requests pass.
func (s *Server) Set(rule Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule, s.requests = rule, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	n, rule, registry := len(s.requests), s.rule, s.registry
	s.mu.Unlock()
	if rule != nil {
		if fault := rule(n, r); fault != nil {
			fault(w, r, registry)
			return
		}
	}
	registry.ServeHTTP(w, r)
}

// RequestsDuring calls do and returns the requests that the server has received
// meanwhile, each as "METHOD /path". It restarts the numbering of requests.
func (s *Server) RequestsDuring(do func()) []string {
	s.mu.Lock()
	s.requests = nil
	s.mu.Unlock()
	do()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Direct sends a request to the registry. The rule does not apply, and the
// request is not recorded.
func (s *Server) Direct(method, path string, header http.Header, content []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), method, "http://"+s.Host+path, bytes.NewReader(content))
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	s.mu.Lock()
	registry := s.registry
	s.mu.Unlock()
	registry.ServeHTTP(w, r)
	return w
}
