// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

// maxRequest is the size of a request body that the server reads at most.
const maxRequest = 1 << 20

// AddRequest is a request to add a part.
type AddRequest struct {
	Name    string   `json:"name"`
	Command []string `json:"command"` // the first element is a path
	Env     []string `json:"env,omitempty"`
	Dir     string   `json:"dir,omitempty"`
	// ReadyURL responds with a 2xx status when the part is healthy. If empty, a running part is healthy.
	ReadyURL string `json:"readyURL,omitempty"`
	// ReadyTimeout is how long to wait for ReadyURL, in nanoseconds. Zero means the default for parts.
	ReadyTimeout time.Duration `json:"readyTimeout,omitempty"`
}

// UpgradeRequest is a request to install another release of Tekton.
type UpgradeRequest struct {
	// Version is empty for the release in the module of localcluster.
	Version string `json:"version"`
}

// ErrorResponse is the body of each response with an error.
type ErrorResponse struct {
	Error string `json:"error"`
}

// Handler serves the control API:
//
//	GET    /v1/parts                   list all parts
//	POST   /v1/parts                   add a part (AddRequest)
//	DELETE /v1/parts/{name}            remove an added part
//	POST   /v1/parts/{name}/{action}   start, stop, kill or restart a part
//	POST   /v1/tekton                  install another release of Tekton (UpgradeRequest)
//
// Each successful response contains the list of all parts. newSpec returns the Spec for a request. upgrade installs
// a release of Tekton.
func (s *Supervisor) Handler(
	token string, newSpec func(AddRequest) (proc.Spec, error), upgrade func(ctx context.Context, version string) error,
) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/parts", s.answer(func(*http.Request) error { return nil }))
	mux.HandleFunc("POST /v1/parts", s.answer(func(r *http.Request) error {
		var req AddRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return fmt.Errorf("%w: request body: %w", ErrRefused, err)
		}
		spec, err := newSpec(req)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return s.Add(r.Context(), spec)
	}))
	mux.HandleFunc("DELETE /v1/parts/{name}", s.answer(func(r *http.Request) error {
		return s.Remove(r.Context(), r.PathValue("name"))
	}))
	mux.HandleFunc("POST /v1/parts/{name}/{action}", s.answer(func(r *http.Request) error {
		return s.Do(r.Context(), r.PathValue("name"), r.PathValue("action"))
	}))
	mux.HandleFunc("POST /v1/tekton", s.answer(func(r *http.Request) error {
		var req UpgradeRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return fmt.Errorf("%w: request body: %w", ErrRefused, err)
		}
		return upgrade(r.Context(), req.Version)
	}))
	return authenticate(token, mux)
}

func authenticate(token string, next http.Handler) http.Handler {
	want := []byte("Bearer " + token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			reply(w, http.StatusUnauthorized, ErrorResponse{Error: "the bearer token is missing or wrong: use the token in state.json"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		next.ServeHTTP(w, r)
	})
}

// answer returns a handler that acts and responds with the list of all parts, or with the error.
func (s *Supervisor) answer(act func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch err := act(r); {
		case err == nil:
			reply(w, http.StatusOK, s.Status())
		case errors.Is(err, ErrUnknownPart):
			reply(w, http.StatusNotFound, ErrorResponse{Error: err.Error()})
		case errors.Is(err, ErrRefused):
			reply(w, http.StatusConflict, ErrorResponse{Error: err.Error()})
		default:
			reply(w, http.StatusInternalServerError, ErrorResponse{Error: err.Error()})
		}
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means that the client has gone
}
