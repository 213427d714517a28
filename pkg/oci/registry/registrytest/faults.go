// SPDX-License-Identifier: Apache-2.0

package registrytest

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Fault is one injected misbehaviour. It handles a request in place of the
// registry, to which it may forward the request.
type Fault func(w http.ResponseWriter, r *http.Request, registry http.Handler)

// Message is the message of the errors that Answer sends.
const Message = "injected fault"

// Answer returns a fault that answers with an HTTP status, an error code of the
// distribution specification, and headers (name, value, name, value, …).
func Answer(status int, code string, header ...string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		for pair := range slices.Chunk(header, 2) {
			w.Header().Set(pair[0], pair[1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"errors":[{"code":"` + code + `","message":"` + Message + `"}]}`))
	}
}

// Drop closes the connection without a response. The registry does not get the
// request.
func Drop(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }

// CutOff reads half of the request's body and closes the connection. The
// registry does not get the request.
func CutOff(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	panic(http.ErrAbortHandler)
}

// DropResponse forwards the request to the registry and closes the connection
// without a response.
func DropResponse(_ http.ResponseWriter, r *http.Request, registry http.Handler) {
	registry.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// TruncateResponse sends half of the response's body and closes the connection.
func TruncateResponse(w http.ResponseWriter, r *http.Request, registry http.Handler) {
	response := httptest.NewRecorder()
	registry.ServeHTTP(response, r)
	maps.Copy(w.Header(), response.Header())
	w.Header().Set("Content-Length", strconv.Itoa(response.Body.Len()))
	w.WriteHeader(response.Code)
	_, _ = w.Write(response.Body.Bytes()[:response.Body.Len()/2])
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
	panic(http.ErrAbortHandler)
}

// Swallow answers the PUT of a blob or manifest with success and does not write
// it. Other requests pass, also the POST that starts an upload.
func Swallow(w http.ResponseWriter, r *http.Request, registry http.Handler) {
	if r.Method != http.MethodPut {
		registry.ServeHTTP(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusCreated)
}

// Tamper returns a fault that changes the response of the registry: change
// returns the new body and may edit the header.
func Tamper(change func(header http.Header, body []byte) []byte) Fault {
	return func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		response := httptest.NewRecorder()
		registry.ServeHTTP(response, r)
		maps.Copy(w.Header(), response.Header())
		w.Header().Del("Content-Length")
		body := change(w.Header(), response.Body.Bytes())
		w.WriteHeader(response.Code)
		_, _ = w.Write(body)
	}
}

// Endless answers a GET with the header of the registry's response and a body
// that never ends. HEAD requests pass.
func Endless(w http.ResponseWriter, r *http.Request, registry http.Handler) {
	if r.Method == http.MethodHead {
		registry.ServeHTTP(w, r)
		return
	}
	response := httptest.NewRecorder()
	registry.ServeHTTP(response, r)
	maps.Copy(w.Header(), response.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(response.Code)
	for chunk := bytes.Repeat([]byte(" "), 1<<16); r.Context().Err() == nil; {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// RejectIncomplete rejects a manifest if the registry lacks a blob that the
// manifest refers to. Most registries do that; the in-memory registry does not.
func RejectIncomplete(w http.ResponseWriter, r *http.Request, registry http.Handler) {
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
		blobs, _, _ := strings.Cut(r.URL.Path, "/manifests/")
		for _, blob := range append(manifest.Layers, manifest.Config) {
			head := httptest.NewRequestWithContext(r.Context(), http.MethodHead, blobs+"/blobs/"+blob.Digest.String(), nil)
			found := httptest.NewRecorder()
			if registry.ServeHTTP(found, head); found.Code != http.StatusOK {
				Answer(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN")(w, r, registry)
				return
			}
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	registry.ServeHTTP(w, r)
}
