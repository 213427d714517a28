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

func TestWhatIsReadIsWhatWasPushed(t *testing.T) {
	w := newWorld(t)
	want, layer := w.pushed("x"), w.uploaded("x")
	for _, reference := range []string{"tag", want.Descriptor.Digest.String()} {
		w.count(1, "reading "+reference, func() error {
			got, err := w.Manifest(t.Context(), reference)
			if !bytes.Equal(got.Content, want.Content) || got.Descriptor.Digest != want.Descriptor.Digest || got.Descriptor.MediaType != want.Descriptor.MediaType {
				t.Errorf("got %+v", got)
			}
			return err
		})
	}
	w.count(1, "reading a blob", func() error {
		got, err := w.Blob(t.Context(), layer.Descriptor, layer.Descriptor.Size)
		if !bytes.Equal(got, layer.Content) {
			t.Errorf("got %q", got)
		}
		return err
	})
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	w := newWorld(t)
	missing := blob("missing").Descriptor
	for name, read := range map[string]func() error{
		"a tag":    func() error { _, err := w.Manifest(t.Context(), "missing"); return err },
		"a digest": func() error { _, err := w.Manifest(t.Context(), missing.Digest.String()); return err },
		"a blob":   func() error { _, err := w.Blob(t.Context(), missing, 100); return err },
	} {
		for range 2 { // the repository is not there either, at first
			if err := read(); !IsNotFound(err) || Unavailable(err) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		w.pushed("x")
	}
	if found, err := w.Referrers(t.Context(), missing.Digest); err != nil || len(found) != 0 {
		t.Errorf("referrers: got %v and %v", found, err)
	}
}

func grown(_ http.Header, body []byte) []byte { return append(bytes.Clone(body), ' ') }
func other(_ http.Header, body []byte) []byte {
	return bytes.Replace(body, body[:1], []byte("\x01"), 1)
}

// short does not say how long it is, and is shorter than it should be.
func short(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
	if r.Method == http.MethodHead {
		registry.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	registry.ServeHTTP(answer, r)
	for name, values := range answer.Header() {
		if name != "Content-Length" {
			w.Header()[name] = values
		}
	}
	_, _ = w.Write(answer.Body.Bytes()[:1])
	w.(http.Flusher).Flush()
}

// Neither the registry nor what is between is trusted with content.
func TestWhatIsNotWhatTheDigestSaysIsRefused(t *testing.T) {
	w := newWorld(t)
	m, layer := w.pushed("content"), w.uploaded("content")
	for name, fault := range map[string]registrytest.Fault{
		"other content":      registrytest.Changed(other),
		"more content":       registrytest.Changed(grown),
		"no content":         registrytest.Changed(func(http.Header, []byte) []byte { return nil }),
		"chunked, too short": short,
		"another digest": registrytest.Changed(func(h http.Header, b []byte) []byte {
			h.Set("Docker-Content-Digest", blob("y").Descriptor.Digest.String())
			return b
		}),
		"a digest of no kind": registrytest.Changed(func(h http.Header, b []byte) []byte { h.Set("Docker-Content-Digest", "sha1:abc"); return b }),
		"half":                registrytest.Half,
		"no end":              registrytest.Endless,
		"hidden, and other":   registrytest.Changed(func(h http.Header, b []byte) []byte { h.Del("Docker-Content-Digest"); return other(h, b) }),
	} {
		w.Fail(fault)
		for what, read := range map[string]func() ([]byte, error){
			"by digest": func() ([]byte, error) {
				got, err := w.Manifest(t.Context(), m.Descriptor.Digest.String())
				return got.Content, err
			},
			"by tag": func() ([]byte, error) { got, err := w.Manifest(t.Context(), "tag"); return got.Content, err },
			"a blob": func() ([]byte, error) { return w.Blob(t.Context(), layer.Descriptor, 100) },
		} {
			if name == "hidden, and other" && what == "by tag" {
				continue // a tag says nothing of content
			}
			got, err := read()
			if err == nil || got != nil || IsNotFound(err) {
				t.Errorf("%s, %s: got %q and %v", what, name, got, err)
			}
			if interrupted := name == "half" || name == "chunked, too short"; err != nil && interrupted != Unavailable(err) {
				t.Errorf("%s, %s: unavailable is %t: %v", what, name, !interrupted, err)
			}
		}
	}
}

func TestWhatIsLongerThanItMayBeIsNotRead(t *testing.T) {
	w := newWorld(t)
	layer := w.uploaded("0123456789")
	w.count(0, "reading what is too long", func() error {
		if got, err := w.Blob(t.Context(), layer.Descriptor, 9); err == nil {
			t.Errorf("got %q", got)
		}
		return nil
	})
	w.pushed(strings.Repeat("x", 10))
	w.Fail(registrytest.Changed(func(h http.Header, _ []byte) []byte {
		body := bytes.Repeat([]byte(" "), maxMetadata+1)
		h.Set("Docker-Content-Digest", digest.FromBytes(body).String())
		return body
	}))
	if got, err := w.Manifest(t.Context(), "tag"); err == nil || Unavailable(err) {
		t.Errorf("got %d bytes and %v", len(got.Content), err)
	}
}

// A descriptor is anybody's, and its digest becomes a part of the URL.
func TestADigestThatIsNoneIsNotAskedFor(t *testing.T) {
	w := newWorld(t)
	for _, digest := range []digest.Digest{"", "x", "sha256", "sha256:abc", "../manifests/tag", "sha256:../../../v2/other/blobs/x", "sha1:0000000000000000000000000000000000000000"} {
		w.count(0, string(digest), func() error {
			if got, err := w.Blob(t.Context(), ocispec.Descriptor{Digest: digest, Size: 1}, 100); err == nil {
				t.Errorf("%q: got %q", digest, got)
			}
			return nil
		})
	}
	for _, reference := range []string{"", "..", "a/b", "a b", "@", "@x", "a:b:c", "other.example/x:y", strings.Repeat("a", 129)} {
		w.count(0, reference, func() error {
			if got, err := w.Manifest(t.Context(), reference); err == nil {
				t.Errorf("%q: got %q", reference, got.Content)
			}
			return nil
		})
	}
}

// What an error says of the thing that was asked for decides what is done next.
func TestErrorsThatTellNothingOfWhatWasAskedFor(t *testing.T) {
	w := newWorld(t)
	w.pushed("x")
	for name, tc := range map[string]struct {
		fault                 registrytest.Fault
		unavailable, notFound bool
	}{
		"not found":           {registrytest.Status(404, "MANIFEST_UNKNOWN"), false, true},
		"no such repository":  {registrytest.Status(404, "NAME_UNKNOWN"), false, true},
		"not authenticated":   {registrytest.Status(401, "UNAUTHORIZED"), true, false},
		"basic, and no user":  {registrytest.Status(401, "UNAUTHORIZED", "Www-Authenticate", `Basic realm="x"`), true, false},
		"not allowed":         {registrytest.Status(403, "DENIED"), true, false},
		"too many":            {registrytest.Status(429, "TOOMANYREQUESTS"), true, false},
		"too many, wait":      {registrytest.Status(429, "TOOMANYREQUESTS", "Retry-After", "7"), true, false},
		"broken":              {registrytest.Status(500, "UNKNOWN"), true, false},
		"no upstream":         {registrytest.Status(502, "UNKNOWN"), true, false},
		"busy":                {registrytest.Status(503, "UNAVAILABLE", "Retry-After", "7"), true, false},
		"full":                {registrytest.Status(507, "DENIED"), true, false},
		"hung up":             {registrytest.Hangup, true, false},
		"hung up in between":  {registrytest.Half, true, false},
		"other content":       {registrytest.Changed(other), false, false},
		"a response too long": {registrytest.Endless, false, false},
	} {
		w.Fail(nil)
		w := in(t, w.Server, NewClient(Options{}))
		w.Fail(tc.fault)
		_, err := w.Manifest(t.Context(), "tag")
		if err == nil || Unavailable(err) != tc.unavailable || IsNotFound(err) != tc.notFound {
			t.Errorf("%s: unavailable is %t, not found is %t: %v", name, Unavailable(err), IsNotFound(err), err)
		}
		found, err := w.Referrers(t.Context(), nobody)
		if (err == nil) != tc.notFound && name != "other content" || len(found) != 0 {
			t.Errorf("%s: got referrers %v and %v", name, found, err)
		}
	}
	if Unavailable(nil) || IsNotFound(nil) || Unavailable(errors.New("x")) {
		t.Error("what is no such error is one")
	}
}

// Nobody waits for longer than they want to.
func TestARegistryThatDoesNotAnswer(t *testing.T) {
	w := newWorld(t)
	asked, ctx := make(chan struct{}), t.Context()
	w.Fail(func(_ int, _ http.ResponseWriter, r *http.Request, _ http.Handler) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(ctx)
	go func() { <-asked; cancel() }()
	if _, err := w.Manifest(ctx, "tag"); !errors.Is(err, context.Canceled) || !Unavailable(err) {
		t.Errorf("got %v", err)
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := w.Manifest(ctx, "tag"); !errors.Is(err, context.DeadlineExceeded) || !Unavailable(err) {
		t.Errorf("got %v", err)
	}
}
