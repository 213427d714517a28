// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
)

func TestManifestAndBlob_ReturnWrittenContent(t *testing.T) {
	f := newFixture(t)
	want, layer := f.addManifest("x"), f.addBlob("x")
	for _, reference := range []string{"tag", want.Descriptor.Digest.String()} {
		f.wantRequests(1, "reading "+reference, func() error {
			got, err := f.repo.Manifest(t.Context(), reference)
			if !bytes.Equal(got.Content, want.Content) || got.Descriptor.Digest != want.Descriptor.Digest || got.Descriptor.MediaType != want.Descriptor.MediaType {
				t.Errorf("got %+v", got)
			}
			return err
		})
	}
	f.wantRequests(1, "reading a blob", func() error {
		got, err := f.repo.Blob(t.Context(), layer.Descriptor, layer.Descriptor.Size)
		if !bytes.Equal(got, layer.Content) {
			t.Errorf("got %q", got)
		}
		return err
	})
}

func TestManifestAndBlob_MissingContentIsNotFound(t *testing.T) {
	f := newFixture(t)
	missing := newBlob("missing").Descriptor
	for name, read := range map[string]func() error{
		"tag":    func() error { _, err := f.repo.Manifest(t.Context(), "missing"); return err },
		"digest": func() error { _, err := f.repo.Manifest(t.Context(), missing.Digest.String()); return err },
		"blob":   func() error { _, err := f.repo.Blob(t.Context(), missing, 100); return err },
	} {
		for range 2 { // at first, the repository does not exist either
			if err := read(); !IsNotFound(err) || Unavailable(err) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		f.addManifest("x")
	}
	if found, err := f.repo.Referrers(t.Context(), missing.Digest); err != nil || len(found) != 0 {
		t.Errorf("referrers: got %v and %v", found, err)
	}
}

func appendSpace(_ http.Header, body []byte) []byte { return append(bytes.Clone(body), ' ') }
func changeFirstByte(_ http.Header, body []byte) []byte {
	return bytes.Replace(body, body[:1], []byte("\x01"), 1)
}

// sendFirstByte sends a chunked response with only the first byte of the body.
func sendFirstByte(w http.ResponseWriter, r *http.Request, registry http.Handler) {
	if r.Method == http.MethodHead {
		registry.ServeHTTP(w, r)
		return
	}
	response := httptest.NewRecorder()
	registry.ServeHTTP(response, r)
	for name, values := range response.Header() {
		if name != "Content-Length" {
			w.Header()[name] = values
		}
	}
	_, _ = w.Write(response.Body.Bytes()[:1])
	w.(http.Flusher).Flush()
}

// The client trusts neither the registry nor a proxy with content.
func TestManifestAndBlob_RejectDigestMismatch(t *testing.T) {
	f := newFixture(t)
	m, layer := f.addManifest("content"), f.addBlob("content")
	for name, fault := range map[string]registrytest.Fault{
		"changed content":   registrytest.Tamper(changeFirstByte),
		"longer content":    registrytest.Tamper(appendSpace),
		"empty content":     registrytest.Tamper(func(http.Header, []byte) []byte { return nil }),
		"chunked, one byte": sendFirstByte,
		"other digest in header": registrytest.Tamper(func(h http.Header, b []byte) []byte {
			h.Set("Docker-Content-Digest", newBlob("y").Descriptor.Digest.String())
			return b
		}),
		"invalid digest in header":  registrytest.Tamper(func(h http.Header, b []byte) []byte { h.Set("Docker-Content-Digest", "sha1:abc"); return b }),
		"truncated response":        registrytest.TruncateResponse,
		"endless response":          registrytest.Endless,
		"changed, no digest header": registrytest.Tamper(func(h http.Header, b []byte) []byte { h.Del("Docker-Content-Digest"); return changeFirstByte(h, b) }),
	} {
		f.server.Set(registrytest.Always(fault))
		for operation, read := range map[string]func() ([]byte, error){
			"manifest by digest": func() ([]byte, error) {
				got, err := f.repo.Manifest(t.Context(), m.Descriptor.Digest.String())
				return got.Content, err
			},
			"manifest by tag": func() ([]byte, error) { got, err := f.repo.Manifest(t.Context(), "tag"); return got.Content, err },
			"blob":            func() ([]byte, error) { return f.repo.Blob(t.Context(), layer.Descriptor, 100) },
		} {
			if name == "changed, no digest header" && operation == "manifest by tag" {
				continue // without the header, nothing says which content a tag has
			}
			got, err := read()
			if err == nil || got != nil || IsNotFound(err) {
				t.Errorf("%s, %s: got %q and %v", operation, name, got, err)
			}
			if interrupted := name == "truncated response" || name == "chunked, one byte"; err != nil && interrupted != Unavailable(err) {
				t.Errorf("%s, %s: unavailable is %t: %v", operation, name, !interrupted, err)
			}
		}
	}
}

func TestManifestAndBlob_RejectTooLongContent(t *testing.T) {
	f := newFixture(t)
	layer := f.addBlob("0123456789")
	f.wantRequests(0, "a blob above the limit", func() error {
		if got, err := f.repo.Blob(t.Context(), layer.Descriptor, 9); err == nil {
			t.Errorf("got %q", got)
		}
		return nil
	})
	f.addManifest(strings.Repeat("x", 10))
	f.server.Set(registrytest.Always(registrytest.Tamper(func(h http.Header, _ []byte) []byte {
		body := bytes.Repeat([]byte(" "), maxMetadata+1)
		h.Set("Docker-Content-Digest", digest.FromBytes(body).String())
		return body
	})))
	if got, err := f.repo.Manifest(t.Context(), "tag"); err == nil || Unavailable(err) {
		t.Errorf("got %d bytes and %v", len(got.Content), err)
	}
}

// Descriptors come from untrusted manifests, and the digest becomes a part of the
// URL.
func TestManifestAndBlob_SendNoRequestForInvalidReference(t *testing.T) {
	f := newFixture(t)
	for _, digest := range []digest.Digest{"", "x", "sha256", "sha256:abc", "../manifests/tag", "sha256:../../../v2/other/blobs/x", "sha1:0000000000000000000000000000000000000000"} {
		f.wantRequests(0, string(digest), func() error {
			if got, err := f.repo.Blob(t.Context(), ocispec.Descriptor{Digest: digest, Size: 1}, 100); err == nil {
				t.Errorf("%q: got %q", digest, got)
			}
			return nil
		})
	}
	for _, reference := range []string{"", "..", "a/b", "a b", "@", "@x", "a:b:c", "other.example/x:y", strings.Repeat("a", 129)} {
		f.wantRequests(0, reference, func() error {
			if got, err := f.repo.Manifest(t.Context(), reference); err == nil {
				t.Errorf("%q: got %q", reference, got.Content)
			}
			return nil
		})
	}
}

func TestManifest_ClassifiesErrors(t *testing.T) {
	f := newFixture(t)
	f.addManifest("x")
	for name, tc := range map[string]struct {
		fault                 registrytest.Fault
		unavailable, notFound bool
	}{
		"manifest unknown":         {registrytest.Answer(404, "MANIFEST_UNKNOWN"), false, true},
		"repository unknown":       {registrytest.Answer(404, "NAME_UNKNOWN"), false, true},
		"status 401":               {registrytest.Answer(401, "UNAUTHORIZED"), true, false},
		"Basic challenge, no user": {registrytest.Answer(401, "UNAUTHORIZED", "Www-Authenticate", `Basic realm="x"`), true, false},
		"status 403":               {registrytest.Answer(403, "DENIED"), true, false},
		"status 429":               {registrytest.Answer(429, "TOOMANYREQUESTS"), true, false},
		"status 429, Retry-After":  {registrytest.Answer(429, "TOOMANYREQUESTS", "Retry-After", "7"), true, false},
		"status 500":               {registrytest.Answer(500, "UNKNOWN"), true, false},
		"status 502":               {registrytest.Answer(502, "UNKNOWN"), true, false},
		"status 503, Retry-After":  {registrytest.Answer(503, "UNAVAILABLE", "Retry-After", "7"), true, false},
		"status 507":               {registrytest.Answer(507, "DENIED"), true, false},
		"no response":              {registrytest.Drop, true, false},
		"truncated response":       {registrytest.TruncateResponse, true, false},
		"changed content":          {registrytest.Tamper(changeFirstByte), false, false},
		"endless response":         {registrytest.Endless, false, false},
	} {
		f.server.Set(nil)
		f := newFixtureOn(t, f.server, NewClient(Options{}))
		f.server.Set(registrytest.Always(tc.fault))
		_, err := f.repo.Manifest(t.Context(), "tag")
		if err == nil || Unavailable(err) != tc.unavailable || IsNotFound(err) != tc.notFound {
			t.Errorf("%s: Unavailable is %t, IsNotFound is %t: %v", name, Unavailable(err), IsNotFound(err), err)
		}
		found, err := f.repo.Referrers(t.Context(), placeholderDigest)
		if (err == nil) != tc.notFound && name != "changed content" || len(found) != 0 {
			t.Errorf("%s: got referrers %v and %v", name, found, err)
		}
	}
	if Unavailable(nil) || IsNotFound(nil) || Unavailable(errors.New("x")) {
		t.Error("nil or an unknown error is classified")
	}
}

func TestManifest_WaitsNoLongerThanContext(t *testing.T) {
	f := newFixture(t)
	received, ctx := make(chan struct{}), t.Context()
	f.server.Set(registrytest.Always(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		received <- struct{}{}
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithCancel(ctx)
	go func() { <-received; cancel() }()
	if _, err := f.repo.Manifest(ctx, "tag"); !errors.Is(err, context.Canceled) || !Unavailable(err) {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := f.repo.Manifest(ctx, "tag"); !errors.Is(err, context.DeadlineExceeded) || !Unavailable(err) {
		t.Errorf("got %v", err)
	}
}
