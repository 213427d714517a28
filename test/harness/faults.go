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

// Fault is what a proxy does to a request in the place of passing it on; nil
// passes it on.
type Fault func(*Faults, http.ResponseWriter, *http.Request)

// errorCodes are those of the OCI distribution specification that clients know
// by themselves, whatever the status is.
var errorCodes = map[int]string{
	http.StatusUnauthorized:    "UNAUTHORIZED",
	http.StatusForbidden:       "DENIED",
	http.StatusNotFound:        "NAME_UNKNOWN",
	http.StatusTooManyRequests: "TOOMANYREQUESTS",
}

// Answer answers as a registry does that refuses, with a status and the header,
// such as Retry-After. It reads the request first.
func Answer(status int, header http.Header) Fault {
	return func(_ *Faults, w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return // nobody is there to answer
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

// CutOff reads half of the request's body, or its first byte if the length is
// unknown, and closes the connection.
func CutOff() Fault {
	return func(_ *Faults, w http.ResponseWriter, r *http.Request) {
		half := r.ContentLength / 2
		if r.ContentLength < 0 {
			half = 1
		}
		_, _ = io.CopyN(io.Discard, r.Body, half) // it may end even before
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = connection.Close()
	}
}

// Hang reads the request and never answers. It ends when the client goes or the
// proxy stops.
func Hang() Fault { return Hold(nil) }

// Hold passes the request on when release is closed, and not before.
func Hold(release <-chan struct{}) Fault {
	return func(f *Faults, w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body) // else the server does not notice that the client goes
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case <-release:
			f.forward(w, r, nil)
		case <-r.Context().Done():
		}
	}
}

// Endless answers with a body that never ends, of the type that the client wants
// most. It is white space, which no parser minds, at some 60 MB/s: a client that
// keeps it all fails a test before it takes the machine's memory.
func Endless() Fault {
	const piece, pause = 64 << 10, time.Millisecond
	return func(_ *Faults, w http.ResponseWriter, r *http.Request) {
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

// Tamper passes the request on and changes the body of the answer. All headers
// but the length stay, the digest among them.
func Tamper(change func([]byte) []byte) Fault {
	return func(f *Faults, w http.ResponseWriter, r *http.Request) { f.forward(w, r, change) }
}

// Swallow answers to a write as a registry does that has done it, which it has
// not. Reads pass.
func Swallow() Fault {
	return func(f *Faults, w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			f.forward(w, r, nil)
			return
		}
		digest, size, err := v1.SHA256(r.Body)
		if err != nil {
			return
		}
		pretend(w, r, digest.String(), size)
	}
}

// pretend answers to a write with a body that has a digest and a size.
func pretend(w http.ResponseWriter, r *http.Request, digest string, size int64) {
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
	default: // the start or a part of one
		header.Set("Location", repository+"/blobs/uploads/swallowed")
		header.Set("Range", "0-"+strconv.FormatInt(max(size-1, 0), 10))
		w.WriteHeader(http.StatusAccepted)
	}
}
