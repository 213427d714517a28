package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/trusted-resources/chains-extension/pkg/oci/registry/registrytest"
)

func TestARegistryThatCannotBeReached(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	client := NewClient(Options{})
	if _, err := client.Repository(t.Context(), strings.TrimPrefix(closed.URL, "http://")+"/prod"); !Unavailable(err) {
		t.Errorf("down: got %v", err)
	}
	server := registrytest.New(t)
	for _, status := range []int{403, 404, 500, 503} {
		server.Fail(registrytest.Status(status, "UNKNOWN"))
		if _, err := client.Repository(t.Context(), server.Host+"/prod"); !Unavailable(err) || IsNotFound(err) {
			t.Errorf("status %d: got %v", status, err)
		}
	}
	server.Fail(registrytest.Status(429, "TOOMANYREQUESTS", "Retry-After", "9"))
	_, err := client.Repository(t.Context(), server.Host+"/prod")
	if busy, ok := errors.AsType[*BusyError](err); !ok || busy.After != 9*time.Second || busy.Status != 429 {
		t.Errorf("busy: got %v", err)
	}
	server.Fail(nil)
	if _, err := client.Repository(t.Context(), server.Host+"/prod"); err != nil {
		t.Errorf("once it can: %v", err)
	}
	if n := len(server.During(func() { _, _ = client.Repository(t.Context(), server.Host+"/other") })); n != 0 {
		t.Errorf("the second repository took %d requests", n)
	}
}

func TestARegistryThatAsksForPatience(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		status int
		after  string
		want   time.Duration // zero: not busy
	}{
		"429":           {429, "7", 7 * time.Second},
		"503":           {503, "7", 7 * time.Second},
		"for a year":    {429, "31536000", maxRetryAfter},
		"not saying":    {429, "", 0},
		"in words":      {429, "soon", 0},
		"another error": {500, "7", 0},
		"forbidden":     {403, "7", 0},
	} {
		w.Fail(registrytest.Status(tc.status, "TOOMANYREQUESTS", "Retry-After", tc.after))
		for what, do := range map[string]func() error{
			"reading":     func() error { _, err := w.Manifest(t.Context(), "tag"); return err },
			"listing":     func() error { _, err := w.Referrers(t.Context(), nobody); return err },
			"uploading":   func() error { return w.PushBlob(t.Context(), blob("x")) },
			"writing":     func() error { return w.PushManifest(t.Context(), manifest(t, "x", nil), "tag") },
			"a referrer":  func() error { return w.PushReferrer(t.Context(), manifest(t, "x", nil), nobody) },
			"downloading": func() error { _, err := w.Blob(t.Context(), blob("x").Descriptor, 10); return err },
		} {
			err := do()
			busy, is := errors.AsType[*BusyError](err)
			if !Unavailable(err) || is != (tc.want > 0) || is && (busy.After != tc.want || busy.Status != tc.status) {
				t.Errorf("%s, %s: got %v", name, what, err)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-1": 0, "1": time.Second, "1.5": 0, "x": 0, "600": maxRetryAfter, "601": maxRetryAfter,
		"9223372036854775807": maxRetryAfter, "-9223372036854775808": 0, "99999999999999999999": 0,
		"Fri, 31 Dec 1999 23:59:59 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": maxRetryAfter,
	} {
		if got := retryAfter(value); got != want {
			t.Errorf("%q: got %s, want %s", value, got, want)
		}
	}
	soon := time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)
	if got := retryAfter(soon); got <= 50*time.Second || got > time.Minute {
		t.Errorf("%q: got %s", soon, got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "-1", "Fri, 31 Dec 1999 23:59:59 GMT", "9223372036854775807", "Mon, 01-Jan-68 00:00:00 GMT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got := retryAfter(value); got < 0 || got > maxRetryAfter {
			t.Fatalf("%q: got %s", value, got)
		}
	})
}

// keychain has the credentials of the moment.
type keychain struct {
	authn.Authenticator
	err   error
	asked []string
}

func (k *keychain) Keychain(context.Context) (authn.Keychain, error) { return k, k.err }

func (k *keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	k.asked = append(k.asked, target.String())
	return k.Authenticator, nil
}

// private lets one user in.
func private(user, password string) registrytest.Fault {
	return func(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("Www-Authenticate", `Basic realm="registry"`)
			registrytest.Status(http.StatusUnauthorized, "UNAUTHORIZED")(0, w, r, registry)
			return
		}
		registry.ServeHTTP(w, r)
	}
}

func TestCredentialsThatChange(t *testing.T) {
	server := registrytest.New(t)
	server.Fail(private("a", "1"))
	keys := &keychain{Authenticator: &authn.Basic{Username: "a", Password: "1"}}
	w := in(t, server, NewClient(Options{Keychains: keys}))
	built := manifest(t, "x", nil)
	w.count(2, "the first request, of which the registry tells how to authenticate it,", func() error {
		return w.PushManifest(t.Context(), built, "tag")
	})
	w.count(1, "the next", func() error { _, err := w.Manifest(t.Context(), "tag"); return err })
	if len(keys.asked) != 1 || keys.asked[0] != server.Host+"/prod" {
		t.Errorf("asked for credentials of %q", keys.asked)
	}
	server.Fail(private("a", "2"))
	if _, err := w.Manifest(t.Context(), "tag"); !Unavailable(err) || strings.Contains(err.Error(), "MTox") {
		t.Errorf("with the old password: got %v", err)
	}
	keys.Authenticator = &authn.Basic{Username: "a", Password: "2"}
	if err := w.PushBlob(t.Context(), blob("content that is sent twice")); err != nil {
		t.Errorf("with the new one: %v", err)
	}
	server.Fail(private("a", "3"))
	keys.err = errors.New("no such Secret")
	if _, err := w.Manifest(t.Context(), "tag"); !errors.Is(err, keys.err) || !Unavailable(err) {
		t.Errorf("without credentials: got %v", err)
	}
}

func TestTokensForTheRegistry(t *testing.T) {
	server := registrytest.New(t)
	var scopes []string
	server.Fail(func(_ int, w http.ResponseWriter, r *http.Request, registry http.Handler) {
		switch {
		case r.URL.Path == "/token":
			if u, p, _ := r.BasicAuth(); u != "a" || p != "1" {
				registrytest.Status(http.StatusUnauthorized, "UNAUTHORIZED")(0, w, r, registry)
				return
			}
			scopes = append(scopes, r.URL.Query()["scope"]...)
			_, _ = fmt.Fprint(w, `{"token": "t"}`)
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("Www-Authenticate", `Bearer realm="http://`+server.Host+`/token",service="x"`)
			registrytest.Status(http.StatusUnauthorized, "UNAUTHORIZED")(0, w, r, registry)
		default:
			registry.ServeHTTP(w, r)
		}
	})
	keys := &keychain{Authenticator: &authn.Basic{Username: "a", Password: "1"}}
	w := in(t, server, NewClient(Options{Keychains: keys}))
	if err := w.PushBlob(t.Context(), blob("x")); err != nil {
		t.Fatal(err)
	}
	if err := w.PushReferrer(t.Context(), attachment(t, manifest(t, "subject", nil), 0), manifest(t, "subject", nil).Descriptor.Digest); err != nil {
		t.Error(err)
	}
	if !strings.Contains(fmt.Sprint(scopes), "repository:prod:pull,push") {
		t.Errorf("got scopes %q", scopes)
	}
	keys.Authenticator = &authn.Basic{Username: "a", Password: "2"}
	if _, err := in(t, server, NewClient(Options{Keychains: keys})).Manifest(t.Context(), "tag"); !Unavailable(err) {
		t.Errorf("with another password: got %v", err)
	}
}

func TestCertificatesAreVerifiedUnlessToldNotTo(t *testing.T) {
	server := httptest.NewUnstartedServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	if repository, err := NewClient(Options{}).Repository(t.Context(), host+"/prod"); !Unavailable(err) {
		t.Errorf("got %v and %v", repository, err)
	}
	repository, err := NewClient(Options{Insecure: true}).Repository(t.Context(), host+"/prod")
	if err != nil {
		t.Fatal(err)
	}
	if err := repository.PushBlob(t.Context(), blob("x")); err != nil {
		t.Error(err)
	}
}

func TestNamesOfRepositoriesAndReferences(t *testing.T) {
	const sum = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	for reference, want := range map[string]string{
		"registry.example/a/b:tag":                        "registry.example/a/b tag",
		"registry.example/a/b@" + sum:                     "registry.example/a/b " + sum,
		"registry.example/ab:tag@" + sum:                  "registry.example/ab " + sum,
		"localhost:5000/ab:tag":                           "localhost:5000/ab tag",
		"a:tag":                                           "",
		"a/b:tag":                                         "",
		"registry.example/ab":                             "",
		"registry.example/AB:tag":                         "",
		"registry.example/ab:tag:tag":                     "",
		"registry.example/ab@sha256:abc":                  "",
		"registry.example/ab@md5:abc":                     "",
		"registry.example/ab:" + strings.Repeat("t", 129): "",
		"": "",
	} {
		repository, version, err := ParseReference(reference)
		if got := strings.TrimSpace(repository + " " + version); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q and %v", reference, got, err)
		}
	}
	for name, ok := range map[string]bool{
		"registry.example/a/b": true, "localhost:5000/ab": true, "a": false, "a/b": false, "registry.example": false, "registry.example/": false,
		"registry.example/AB": false, "registry.example/ab:tag": false, "registry.example/ab@" + sum: false, "": false,
		"registry.example/a b": false, "registry.example/" + strings.Repeat("a", 256): false,
	} {
		if parsed, err := ParseRepository(name); (err == nil) != ok {
			t.Errorf("%q: got %v and %v", name, parsed, err)
		}
	}
	// What one library takes, the other refuses before anything is asked for.
	server := registrytest.New(t)
	client := NewClient(Options{})
	for _, path := range []string{"a//b", "../a", "a/../b", "a/.", "-a", "a/_b", "a/", "."} {
		if repository, err := client.Repository(t.Context(), server.Host+"/"+path); err == nil {
			t.Errorf("%q: got %s", path, repository.Name())
		}
	}
}

func TestARepositoryIsTheSameForAll(t *testing.T) {
	server, client := registrytest.New(t), NewClient(Options{})
	got := make(chan *Repository)
	for range 8 {
		go func() {
			repository, err := client.Repository(t.Context(), server.Host+"/prod")
			if err != nil {
				t.Error(err)
			}
			got <- repository
		}()
	}
	one := <-got
	for range 7 {
		if another := <-got; another != one {
			t.Error("got two")
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// Of a registry that is not on this machine, nothing but HTTPS is asked.
func TestARegistryElsewhereThatDoesNotLetAnybodyIn(t *testing.T) {
	for _, status := range []int{403, 404, 500, 503} {
		client := NewClient(Options{})
		client.transport = roundTrip(func(request *http.Request) (*http.Response, error) {
			if request.URL.Scheme != "https" {
				t.Errorf("asked %s", request.URL)
			}
			return &http.Response{StatusCode: status, Request: request, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("no"))}, nil
		})
		if _, err := client.Repository(t.Context(), "registry.example/prod"); !Unavailable(err) || IsNotFound(err) {
			t.Errorf("status %d: got %v", status, err)
		}
	}
}

func TestAnAnswerWithoutEndIsNotReadToTheEnd(t *testing.T) {
	server := registrytest.New(t)
	server.Fail(registrytest.Endless)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := NewClient(Options{}).Repository(ctx, server.Host+"/prod"); err != nil || ctx.Err() != nil {
		t.Errorf("got %v and %v", err, ctx.Err())
	}
}
