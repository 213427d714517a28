// SPDX-License-Identifier: Apache-2.0

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

func TestRepository_UnreachableRegistryIsUnavailable(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	client := NewClient(Options{})
	if _, err := client.Repository(t.Context(), strings.TrimPrefix(closed.URL, "http://")+"/prod"); !Unavailable(err) {
		t.Errorf("connection refused: got %v", err)
	}
	server := registrytest.New(t)
	for _, status := range []int{403, 404, 500, 503} {
		server.Set(registrytest.Always(registrytest.Answer(status, "UNKNOWN")))
		if _, err := client.Repository(t.Context(), server.Host+"/prod"); !Unavailable(err) || IsNotFound(err) {
			t.Errorf("status %d: got %v", status, err)
		}
	}
	server.Set(registrytest.Always(registrytest.Answer(429, "TOOMANYREQUESTS", "Retry-After", "9")))
	_, err := client.Repository(t.Context(), server.Host+"/prod")
	if busy, ok := errors.AsType[*BusyError](err); !ok || busy.After != 9*time.Second || busy.Status != 429 {
		t.Errorf("status 429: got %v", err)
	}
	server.Set(nil)
	if _, err := client.Repository(t.Context(), server.Host+"/prod"); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	if n := len(server.RequestsDuring(func() { _, _ = client.Repository(t.Context(), server.Host+"/other") })); n != 0 {
		t.Errorf("the second repository of the registry took %d requests", n)
	}
}

func TestRepository_RetryAfterBecomesBusyError(t *testing.T) {
	f := newFixture(t)
	for name, tc := range map[string]struct {
		status int
		after  string
		want   time.Duration // zero: no BusyError
	}{
		"status 429":               {429, "7", 7 * time.Second},
		"status 503":               {503, "7", 7 * time.Second},
		"delay above the maximum":  {429, "31536000", maxRetryAfter},
		"no Retry-After":           {429, "", 0},
		"Retry-After without time": {429, "soon", 0},
		"status 500":               {500, "7", 0},
		"status 403":               {403, "7", 0},
	} {
		f.server.Set(registrytest.Always(registrytest.Answer(tc.status, "TOOMANYREQUESTS", "Retry-After", tc.after)))
		for operation, do := range map[string]func() error{
			"Manifest":     func() error { _, err := f.repo.Manifest(t.Context(), "tag"); return err },
			"Referrers":    func() error { _, err := f.repo.Referrers(t.Context(), placeholderDigest); return err },
			"PushBlob":     func() error { return f.repo.PushBlob(t.Context(), newBlob("x")) },
			"PushManifest": func() error { return f.repo.PushManifest(t.Context(), newManifest(t, "x", nil), "tag") },
			"PushReferrer": func() error { return f.repo.PushReferrer(t.Context(), newManifest(t, "x", nil), placeholderDigest) },
			"Blob":         func() error { _, err := f.repo.Blob(t.Context(), newBlob("x").Descriptor, 10); return err },
		} {
			err := do()
			busy, isBusy := errors.AsType[*BusyError](err)
			if !Unavailable(err) || isBusy != (tc.want > 0) || isBusy && (busy.After != tc.want || busy.Status != tc.status) {
				t.Errorf("%s, %s: got %v", name, operation, err)
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

// keychain is a Keychains with one credential, which tests replace.
type keychain struct {
	authn.Authenticator
	err     error
	targets []string // for which credentials were resolved
}

func (k *keychain) Keychain(context.Context) (authn.Keychain, error) { return k, k.err }

func (k *keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	k.targets = append(k.targets, target.String())
	return k.Authenticator, nil
}

// requireBasicAuth rejects requests without this user and password.
func requireBasicAuth(user, password string) registrytest.Fault {
	return func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("Www-Authenticate", `Basic realm="registry"`)
			registrytest.Answer(http.StatusUnauthorized, "UNAUTHORIZED")(w, r, registry)
			return
		}
		registry.ServeHTTP(w, r)
	}
}

func TestRepository_UsesCurrentCredentials(t *testing.T) {
	server := registrytest.New(t)
	server.Set(registrytest.Always(requireBasicAuth("a", "1")))
	keys := &keychain{Authenticator: &authn.Basic{Username: "a", Password: "1"}}
	f := newFixtureOn(t, server, NewClient(Options{Keychains: keys}))
	built := newManifest(t, "x", nil)
	f.wantRequests(2, "the first request, with its authentication challenge,", func() error {
		return f.repo.PushManifest(t.Context(), built, "tag")
	})
	f.wantRequests(1, "the second request", func() error { _, err := f.repo.Manifest(t.Context(), "tag"); return err })
	if len(keys.targets) != 1 || keys.targets[0] != server.Host+"/prod" {
		t.Errorf("resolved credentials for %q", keys.targets)
	}
	server.Set(registrytest.Always(requireBasicAuth("a", "2")))
	if _, err := f.repo.Manifest(t.Context(), "tag"); !Unavailable(err) || strings.Contains(err.Error(), "MTox") {
		t.Errorf("with the previous password: got %v", err)
	}
	keys.Authenticator = &authn.Basic{Username: "a", Password: "2"}
	if err := f.repo.PushBlob(t.Context(), newBlob("content")); err != nil {
		t.Errorf("with the current password: %v", err)
	}
	server.Set(registrytest.Always(requireBasicAuth("a", "3")))
	keys.err = errors.New("no such Secret")
	if _, err := f.repo.Manifest(t.Context(), "tag"); !errors.Is(err, keys.err) || !Unavailable(err) {
		t.Errorf("without credentials: got %v", err)
	}
}

func TestRepository_RequestsTokenWithPushScope(t *testing.T) {
	server := registrytest.New(t)
	var scopes []string
	server.Set(registrytest.Always(func(w http.ResponseWriter, r *http.Request, registry http.Handler) {
		switch {
		case r.URL.Path == "/token":
			if u, p, _ := r.BasicAuth(); u != "a" || p != "1" {
				registrytest.Answer(http.StatusUnauthorized, "UNAUTHORIZED")(w, r, registry)
				return
			}
			scopes = append(scopes, r.URL.Query()["scope"]...)
			_, _ = fmt.Fprint(w, `{"token": "t"}`)
		case r.Header.Get("Authorization") != "Bearer t":
			w.Header().Set("Www-Authenticate", `Bearer realm="http://`+server.Host+`/token",service="x"`)
			registrytest.Answer(http.StatusUnauthorized, "UNAUTHORIZED")(w, r, registry)
		default:
			registry.ServeHTTP(w, r)
		}
	}))
	keys := &keychain{Authenticator: &authn.Basic{Username: "a", Password: "1"}}
	f := newFixtureOn(t, server, NewClient(Options{Keychains: keys}))
	if err := f.repo.PushBlob(t.Context(), newBlob("x")); err != nil {
		t.Fatal(err)
	}
	if err := f.repo.PushReferrer(t.Context(), newReferrer(t, newManifest(t, "subject", nil), 0), newManifest(t, "subject", nil).Descriptor.Digest); err != nil {
		t.Error(err)
	}
	if !strings.Contains(fmt.Sprint(scopes), "repository:prod:pull,push") {
		t.Errorf("got scopes %q", scopes)
	}
	keys.Authenticator = &authn.Basic{Username: "a", Password: "2"}
	if _, err := newFixtureOn(t, server, NewClient(Options{Keychains: keys})).repo.Manifest(t.Context(), "tag"); !Unavailable(err) {
		t.Errorf("with a wrong password: got %v", err)
	}
}

func TestNewClient_VerifiesCertificatesUnlessInsecure(t *testing.T) {
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
	if err := repository.PushBlob(t.Context(), newBlob("x")); err != nil {
		t.Error(err)
	}
}

func TestParseReferenceAndParseRepository(t *testing.T) {
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
	// go-containerregistry accepts these names; oras-go rejects them.
	server := registrytest.New(t)
	client := NewClient(Options{})
	for _, path := range []string{"a//b", "../a", "a/../b", "a/.", "-a", "a/_b", "a/", "."} {
		if repository, err := client.Repository(t.Context(), server.Host+"/"+path); err == nil {
			t.Errorf("%q: got %s", path, repository.Name())
		}
	}
}

func TestRepository_ConcurrentCallersGetSameValue(t *testing.T) {
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
	first := <-got
	for range 7 {
		if other := <-got; other != first {
			t.Error("got two different values")
		}
	}
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func TestRepository_DoesNotFallBackToPlainHTTPForRemoteHost(t *testing.T) {
	for _, status := range []int{403, 404, 500, 503} {
		client := NewClient(Options{})
		client.transport = roundTripFunc(func(request *http.Request) (*http.Response, error) {
			if request.URL.Scheme != "https" {
				t.Errorf("sent a request to %s", request.URL)
			}
			return &http.Response{StatusCode: status, Request: request, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("no"))}, nil
		})
		if _, err := client.Repository(t.Context(), "registry.example/prod"); !Unavailable(err) || IsNotFound(err) {
			t.Errorf("status %d: got %v", status, err)
		}
	}
}

func TestRepository_DoesNotReadEndlessPingResponse(t *testing.T) {
	server := registrytest.New(t)
	server.Set(registrytest.Always(registrytest.Endless))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := NewClient(Options{}).Repository(ctx, server.Host+"/prod"); err != nil || ctx.Err() != nil {
		t.Errorf("got %v and %v", err, ctx.Err())
	}
}

// Each request is told with its status, without the host.
func TestObservedTransport_TellsEachRequest(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		err    error
	}{"answer": {404, nil}, "no answer": {0, errors.New("refused")}} {
		told := ""
		transport := observedTransport{roundTripFunc(func(*http.Request) (*http.Response, error) {
			if tc.err != nil {
				return nil, tc.err
			}
			return &http.Response{StatusCode: tc.status, Body: http.NoBody}, nil
		}), func(_ context.Context, method string, status int, _ time.Duration) {
			told = fmt.Sprint(method, " ", status)
		}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "https://registry.example/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err == nil {
			_ = response.Body.Close()
		}
		if want := fmt.Sprint("HEAD ", tc.status); told != want || !errors.Is(err, tc.err) {
			t.Errorf("%s: got %q and error %v, want %q", name, told, err, want)
		}
	}
}
