// Package registrytest has a registry in memory for tests, which counts what it
// is asked and fails as it is told to.
package registrytest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Server is go-containerregistry's registry behind a fault.
type Server struct {
	// Host is its name: host and port.
	Host string

	handler http.Handler

	mu       sync.Mutex
	requests []string
	fault    Fault
}

// Fault answers a request, the n-th since it was set (from 1), in place of the
// registry or with its help.
type Fault func(n int, w http.ResponseWriter, r *http.Request, registry http.Handler)

// New starts a server that lists referrers itself.
func New(t testing.TB) *Server {
	t.Helper()
	return start(t, true)
}

// NewWithoutReferrers starts a server of the time before.
func NewWithoutReferrers(t testing.TB) *Server {
	t.Helper()
	return start(t, false)
}

func start(t testing.TB, referrers bool) *Server {
	t.Helper()
	s := &Server{handler: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(referrers))}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	s.Host = strings.TrimPrefix(server.URL, "http://")
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	n, fault := len(s.requests), s.fault
	s.mu.Unlock()
	if fault != nil {
		fault(n, w, r, s.handler)
		return
	}
	s.handler.ServeHTTP(w, r)
}

// Fail sets the fault, nil for none, and begins to count anew.
func (s *Server) Fail(fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault, s.requests = fault, nil
}

// During is what was asked while do ran.
func (s *Server) During(do func()) []string {
	s.mu.Lock()
	s.requests = nil
	s.mu.Unlock()
	do()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Do asks the registry behind the fault.
func (s *Server) Do(method, path string, header http.Header, content []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), method, "http://"+s.Host+path, bytes.NewReader(content))
	maps.Copy(r.Header, header)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// Nth has the n-th request answered by that fault, and no other.
func Nth(n int, fault Fault) Fault {
	return Where(func(i int, _ *http.Request) bool { return i == n }, fault)
}

// From has the n-th request answered by that fault, and all that follow: net/http
// asks again what nobody answered.
func From(n int, fault Fault) Fault {
	return Where(func(i int, _ *http.Request) bool { return i >= n }, fault)
}

// Where has the requests answered by that fault that are so.
func Where(is func(n int, r *http.Request) bool, fault Fault) Fault {
	return func(n int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
		if is(n, r) {
			fault(n, w, r, registry)
			return
		}
		registry.ServeHTTP(w, r)
	}
}

// Asks says whether a request is of that method and has that in its path.
func Asks(method, path string) func(int, *http.Request) bool {
	return func(_ int, r *http.Request) bool { return r.Method == method && strings.Contains(r.URL.Path, path) }
}

// Status answers with that status and error code, and headers by name and value.
func Status(status int, code string, header ...string) Fault {
	return func(_ int, w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		for pair := range slices.Chunk(header, 2) {
			w.Header().Set(pair[0], pair[1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"errors":[{"code":"` + code + `","message":"as told"}]}`))
	}
}

// Hangup closes the connection without an answer; what was asked is not done.
func Hangup(int, http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// HangupDuring reads half of what is sent and closes the connection.
func HangupDuring(_ int, _ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	panic(http.ErrAbortHandler)
}

// HangupAfter does what was asked and says nothing.
func HangupAfter(_ int, _ http.ResponseWriter, r *http.Request, registry http.Handler) {
	registry.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// Swallow says that it is written, which it is not.
func Swallow(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
	if r.Method != http.MethodPut && r.Method != http.MethodPost {
		registry.ServeHTTP(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusCreated)
}

// Half sends half of the answer.
func Half(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
	answer := httptest.NewRecorder()
	registry.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.Header())
	w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
	panic(http.ErrAbortHandler)
}

// Changed changes what the registry answers.
func Changed(change func(header http.Header, body []byte) []byte) Fault {
	return func(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
		answer := httptest.NewRecorder()
		registry.ServeHTTP(answer, r)
		maps.Copy(w.Header(), answer.Header())
		w.Header().Del("Content-Length")
		body := change(w.Header(), answer.Body.Bytes())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	}
}

// Endless sends a valid header and never stops.
func Endless(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
	if r.Method == http.MethodHead {
		registry.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	registry.ServeHTTP(answer, r)
	maps.Copy(w.Header(), answer.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.Code)
	for chunk := bytes.Repeat([]byte(" "), 1<<16); r.Context().Err() == nil; {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// Strict takes a manifest only if what it refers to is there, as most
// registries do.
func (s *Server) Strict(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
	if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
		registry.ServeHTTP(w, r)
		return
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var manifest ocispec.Manifest
	if json.Unmarshal(content, &manifest) == nil && manifest.Config.Digest != "" {
		for _, blob := range append(manifest.Layers, manifest.Config) {
			path := r.URL.Path[:strings.LastIndex(r.URL.Path, "/manifests/")] + "/blobs/" + blob.Digest.String()
			if s.Do(http.MethodHead, path, nil, nil).Code != http.StatusOK {
				Status(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")(0, w, r, registry)
				return
			}
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	registry.ServeHTTP(w, r)
}

// Wipe empties the registry.
func (s *Server) Wipe(referrers bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(referrers))
}
