// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Fault is one misbehaviour: the proxy calls the fault instead of forwarding the
// request. A nil Fault means that the proxy forwards the request.
type Fault func(*Proxy, http.ResponseWriter, *http.Request)

// errorCodes maps status codes to error codes of the OCI distribution specification.
// Clients act on these error codes without looking at the status.
var errorCodes = map[int]string{
	http.StatusUnauthorized:    "UNAUTHORIZED",
	http.StatusForbidden:       "DENIED",
	http.StatusNotFound:        "NAME_UNKNOWN",
	http.StatusTooManyRequests: "TOOMANYREQUESTS",
}

// Answer responds like a registry that rejects the request: with a status, an error
// in JSON, and header fields such as Retry-After. Answer reads the request first.
func Answer(status int, header http.Header) Fault {
	return func(_ *Proxy, w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // the client has gone
		}
		code, known := errorCodes[status]
		if !known {
			code = "UNKNOWN"
		}
		type refusal struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}
		w.Header().Set("Content-Type", "application/json")
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string][]refusal{"errors": {{code, http.StatusText(status)}}})
	}
}

// CutOff reads half of the request body, or the first byte if the length is
// unknown, and then closes the connection without a response.
func CutOff() Fault {
	return func(_ *Proxy, w http.ResponseWriter, r *http.Request) {
		half := r.ContentLength / 2
		if r.ContentLength < 0 {
			half = 1
		}
		_, _ = io.CopyN(io.Discard, r.Body, half) // an error means that the client has gone
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = connection.Close()
	}
}

// Hang reads the request and never responds. The fault ends when the client
// disconnects or the proxy stops.
func Hang() Fault { return Hold(nil) }

// Hold forwards the request as soon as release is closed.
func Hold(release <-chan struct{}) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // an http.Server notices a disconnect only after the body is read
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-release:
			p.forward(w, r, nil)
		case <-r.Context().Done():
		}
	}
}

// Endless responds with a body that never ends. The Content-Type is the first one
// that the client accepts. The body is white space, which every parser accepts. The
// rate is about 60 MB/s, so that a client without a limit fails its test before
// the machine runs out of memory.
func Endless() Fault {
	const piece, pause = 64 << 10, time.Millisecond
	return func(_ *Proxy, w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		wanted, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
		w.Header().Set("Content-Type", wanted)
		content := bytes.Repeat([]byte(" "), piece)
		next := time.NewTicker(pause)
		defer next.Stop()
		for {
			if _, err := w.Write(content); err != nil {
				return
			}
			select {
			case <-next.C:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// Tamper forwards the request and changes the body of the response. All headers
// except Content-Length stay as they are, including the digest.
func Tamper(change func([]byte) []byte) Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) { p.forward(w, r, change) }
}

// Swallow confirms each write as the registry would, without forwarding it. Reads are
// forwarded.
func Swallow() Fault {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			p.forward(w, r, nil)
			return
		}
		digest, size, err := v1.SHA256(r.Body)
		if err != nil {
			return
		}
		confirm(w, r, digest.String(), size)
	}
}

// confirm confirms a write whose body has a digest and a size.
func confirm(w http.ResponseWriter, r *http.Request, digest string, size int64) {
	repository, endpoint := splitPath(r)
	header, uploaded := w.Header(), r.URL.Query().Get("digest")
	switch {
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusAccepted)
	case endpoint == EndpointManifests:
		header.Set("Location", repository+"/manifests/"+digest)
		header.Set("Docker-Content-Digest", digest)
		w.WriteHeader(http.StatusCreated)
	case uploaded != "": // the end of an upload
		header.Set("Location", repository+"/blobs/"+uploaded)
		header.Set("Docker-Content-Digest", uploaded)
		w.WriteHeader(http.StatusCreated)
	default: // the start of an upload, or one chunk
		header.Set("Location", repository+"/blobs/uploads/swallowed")
		header.Set("Range", "0-"+strconv.FormatInt(max(size-1, 0), 10))
		w.WriteHeader(http.StatusAccepted)
	}
}
