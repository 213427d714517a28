// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"k8s.io/apimachinery/pkg/util/wait"
)

// faultWait is how long a test waits to see that a fault does not end.
const faultWait = 200 * time.Millisecond

// once disables retries of the client, so that each call makes one request.
var once = remote.WithRetryBackoff(remote.Backoff{Steps: 1})

// startProxies starts a registry and two proxies in front of it: the first injects
// faults, the second counts the requests that the first one forwards.
func startProxies(t *testing.T) (faulty, counting *Proxy) {
	t.Helper()
	registry, err := StartRegistry(t.Context())
	check(t, err)
	counting, err = StartProxy(t.Context(), registry.Host())
	check(t, err)
	faulty, err = StartProxy(t.Context(), counting.Host())
	check(t, err)
	t.Cleanup(func() { check(t, errors.Join(faulty.Stop(), counting.Stop(), registry.Stop())) })
	return faulty, counting
}

// on returns a rule: requests to the endpoint with one of the methods get the fault.
func on(endpoint Endpoint, fault Fault, methods ...string) Rule {
	return func(r *http.Request) Fault {
		for _, method := range methods {
			if r.Method == method && EndpointOf(r) == endpoint {
				return fault
			}
		}
		return nil
	}
}

// answer is the part of a response that arrived before it ended or failed.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request without a registry client. The body has a known length.
func do(ctx context.Context, method, url string, body []byte) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return answer{}, err
	}
	content, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(content)}, errors.Join(err, response.Body.Close())
}

func TestProxy_ForwardsAndCountsWithoutRule(t *testing.T) {
	faulty, counting := startProxies(t)
	image, err := PushImage(t.Context(), faulty.Host()+"/app", once)
	check(t, err)
	pushed := faulty.Count()
	for call, want := range map[Call]int{
		{http.MethodPut, EndpointManifests}: 1,
		{http.MethodPost, EndpointUploads}:  2, // the layer and the configuration
		{http.MethodPatch, EndpointUploads}: 2,
		{http.MethodPut, EndpointUploads}:   2,
		{http.MethodHead, EndpointBlobs}:    2,
	} {
		if pushed[call] != want {
			t.Errorf("%d requests %v, want %d", pushed[call], call, want)
		}
	}
	if got := counting.Count(); !maps.Equal(got, pushed) {
		t.Errorf("got requests %v, forwarded %v", pushed, got)
	}

	content, err := remote.Image(image, remote.WithContext(t.Context()), once)
	check(t, err)
	if _, err := content.RawConfigFile(); err != nil {
		t.Error(err)
	}
	pulled := faulty.Count().Since(pushed)
	if pulled.By(http.MethodGet) != pulled.Total() || pulled.At(EndpointManifests) != 1 || pulled.At(EndpointBlobs) != 1 {
		t.Errorf("requests of the pull: %v, want GET of one manifest and one blob", pulled)
	}
}

func TestAnswer_RespondsInsteadOfRegistry(t *testing.T) {
	faulty, counting := startProxies(t)
	for _, status := range []int{
		http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge,
		http.StatusTooManyRequests, http.StatusInsufficientStorage,
	} {
		faulty.Set(on(EndpointManifests, Answer(status, http.Header{"Retry-After": {"7"}}), http.MethodPut))
		_, err := PushImage(t.Context(), faulty.Host()+"/app", once)
		var refused *transport.Error
		if !errors.As(err, &refused) || refused.StatusCode != status || len(refused.Errors) != 1 {
			t.Errorf("got error %v, want status %d", err, status)
		}
		response, err := do(t.Context(), http.MethodPut, "http://"+faulty.Host()+"/v2/app/manifests/latest", []byte("{}"))
		check(t, err)
		if got := response.header.Get("Retry-After"); response.status != status || got != "7" {
			t.Errorf("status %d, retry after %q; want %d, 7", response.status, got, status)
		}
	}
	if got := counting.Count()[Call{http.MethodPut, EndpointManifests}]; got != 0 {
		t.Errorf("%d of the rejected manifests were forwarded", got)
	}
}

// The proxy calls the rule for one request at a time, so a rule may keep a count.
func TestProxy_AppliesCountingRule(t *testing.T) {
	faulty, _ := startProxies(t)
	left := 3
	faulty.Set(func(*http.Request) Fault {
		if left == 0 {
			return nil
		}
		left--
		return Answer(http.StatusServiceUnavailable, nil)
	})
	var mu sync.Mutex
	var requests sync.WaitGroup
	statuses := map[int]int{}
	for range 8 {
		requests.Go(func() {
			response, err := do(t.Context(), http.MethodGet, "http://"+faulty.Host()+"/v2/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[response.status]++
		})
	}
	requests.Wait()
	if want := map[int]int{http.StatusServiceUnavailable: 3, http.StatusOK: 5}; !maps.Equal(statuses, want) {
		t.Errorf("answers by status: %v, want %v", statuses, want)
	}
	if got := faulty.Count().At(EndpointOther); got != 8 {
		t.Errorf("%d requests, want 8", got)
	}
}

// The connection ends while the client is still sending: the body is larger than any
// buffer on the way.
func TestCutOff_ClosesConnectionDuringUpload(t *testing.T) {
	faulty, counting := startProxies(t)
	faulty.Set(on(EndpointUploads, CutOff(), http.MethodPatch))
	sent := &countingReader{Reader: bytes.NewReader(make([]byte, 64<<20))}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://"+faulty.Host()+"/v2/app/blobs/uploads/1", io.NopCloser(sent))
	check(t, err)
	request.ContentLength = 64 << 20
	response, err := (&http.Transport{}).RoundTrip(request)
	if err == nil {
		t.Errorf("got a response with status %d, want none", response.StatusCode)
		check(t, response.Body.Close())
	}
	if sent.n < 32<<20 || sent.n >= 64<<20 {
		t.Errorf("the connection ended after %d of %d bytes, want about half", sent.n, 64<<20)
	}
	if _, err := PushImage(t.Context(), faulty.Host()+"/app", once); err == nil {
		t.Error("PushImage succeeded although uploads are cut off")
	}
	if got := counting.Count().By(http.MethodPatch); got != 0 {
		t.Errorf("%d of the uploads were forwarded", got)
	}
	faulty.Set(nil)
	_, err = PushImage(t.Context(), faulty.Host()+"/app", once)
	check(t, err)
}

type countingReader struct {
	io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func TestHang_EndsWhenClientCancels(t *testing.T) {
	faulty, counting := startProxies(t)
	arrived, gone := make(chan struct{}), make(chan struct{})
	faulty.Set(func(*http.Request) Fault {
		return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
			close(arrived)
			Hang()(p, w, r)
			close(gone)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := do(ctx, http.MethodPut, "http://"+faulty.Host()+"/v2/app/manifests/latest", make([]byte, 1<<20))
		ended <- err
	}()
	<-arrived
	select {
	case err := <-ended:
		t.Fatalf("the request ended with error %v, want it to hang", err)
	case <-time.After(faultWait):
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	<-gone // the fault ends, too
	if got := counting.Count().Total(); got != 0 {
		t.Errorf("%d requests were forwarded", got)
	}
}

func TestHang_EndsWhenProxyStops(t *testing.T) {
	faulty, _ := startProxies(t)
	faulty.Set(func(*http.Request) Fault { return Hang() })
	tag, ended := latest(t, faulty), make(chan error, 1)
	go func() {
		_, err := remote.Get(tag, remote.WithContext(t.Context()), once)
		ended <- err
	}()
	eventually(t, func() bool { return faulty.Count().Total() > 0 })
	check(t, faulty.Stop())
	if err := <-ended; err == nil {
		t.Error("the request succeeded after Stop")
	}
	check(t, faulty.Start(t.Context()))
	faulty.Set(nil)
	if !answers(t, faulty.Host()) {
		t.Error("the proxy does not respond after Start")
	}
}

func TestHold_ForwardsAfterRelease(t *testing.T) {
	faulty, counting := startProxies(t)
	release, pushed := make(chan struct{}), make(chan error, 1)
	faulty.Set(on(EndpointManifests, Hold(release), http.MethodPut))
	go func() {
		_, err := PushImage(t.Context(), faulty.Host()+"/app", once)
		pushed <- err
	}()
	put := Call{http.MethodPut, EndpointManifests}
	eventually(t, func() bool { return faulty.Count()[put] > 0 })
	if got := counting.Count()[put]; got != 0 {
		t.Errorf("%d manifests were forwarded before the release", got)
	}
	close(release)
	check(t, <-pushed)
	if got := counting.Count()[put]; got != 1 {
		t.Errorf("%d manifests were forwarded after the release, want 1", got)
	}
}

// A client without a limit reads until its context ends. A client with a limit fails.
func TestEndless_NeverEndsResponse(t *testing.T) {
	faulty, _ := startProxies(t)
	faulty.Set(on(EndpointManifests, Endless(), http.MethodGet))
	ctx, cancel := context.WithTimeout(t.Context(), faultWait)
	defer cancel()
	response, err := do(ctx, http.MethodGet, "http://"+faulty.Host()+"/v2/app/manifests/latest", nil)
	if !errors.Is(err, context.DeadlineExceeded) || response.status != http.StatusOK || response.body == "" {
		t.Errorf("status %d, %d bytes of the body, error %v; want 200 and a body without an end", response.status, len(response.body), err)
	}
	if _, err := remote.Get(latest(t, faulty), remote.WithContext(t.Context()), once); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("got error %v, want one that names a limit", err)
	}
}

func TestTamper_ChangesBodyAndKeepsDigestHeader(t *testing.T) {
	faulty, _ := startProxies(t)
	image, err := PushImage(t.Context(), faulty.Host()+"/app", once)
	check(t, err)
	pull := func() (string, error) {
		descriptor, err := remote.Get(image, remote.WithContext(t.Context()), once)
		if err != nil {
			return "", err
		}
		return string(descriptor.Manifest), nil
	}
	genuine, err := pull()
	check(t, err)
	faulty.Set(on(EndpointManifests, Tamper(func(body []byte) []byte { return append(body, ' ') }), http.MethodGet))
	if _, err := pull(); err == nil || !strings.Contains(err.Error(), "digest") {
		t.Errorf("got error %v, want one about the digest", err)
	}
	response, err := do(t.Context(), http.MethodGet, "http://"+faulty.Host()+"/v2/app/manifests/"+image.DigestStr(), nil)
	check(t, err)
	if response.body != genuine+" " || response.header.Get("Docker-Content-Digest") != image.DigestStr() {
		t.Errorf("the manifest is %q with header %v, want one more space and the old digest", response.body, response.header)
	}
	if _, err := remote.Head(image, remote.WithContext(t.Context()), once); err != nil {
		t.Errorf("HEAD, which has no body: %v", err)
	}
	faulty.Set(nil)
	if _, err := pull(); err != nil {
		t.Error(err)
	}
}

// The client gets no error, and the registry stores nothing.
func TestSwallow_ConfirmsWritesWithoutForwarding(t *testing.T) {
	faulty, counting := startProxies(t)
	faulty.Set(func(*http.Request) Fault { return Swallow() })
	image, err := PushImage(t.Context(), faulty.Host()+"/of/manifests/app", once)
	check(t, err)
	response, err := do(t.Context(), http.MethodDelete, "http://"+faulty.Host()+"/v2/of/manifests/app/manifests/"+image.DigestStr(), nil)
	check(t, err)
	if response.status != http.StatusAccepted {
		t.Errorf("deleting: status %d", response.status)
	}
	arrived := counting.Count()
	if reads := arrived.By(http.MethodHead) + arrived.By(http.MethodGet); reads == 0 || reads != arrived.Total() {
		t.Errorf("forwarded requests: %v, want reads only", arrived)
	}
	var missing *transport.Error
	if _, err := remote.Get(image, remote.WithContext(t.Context()), once); !errors.As(err, &missing) || missing.StatusCode != http.StatusNotFound {
		t.Errorf("got error %v, want status 404", err)
	}
}

// Many clients use the proxy at once while the rule changes.
func TestProxy_ServesConcurrentClients(t *testing.T) {
	faulty, _ := startProxies(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pushes, rules sync.WaitGroup
	rules.Go(func() {
		for ctx.Err() == nil {
			faulty.Set(func(*http.Request) Fault { return nil })
			faulty.Count()
		}
	})
	for range 8 {
		pushes.Go(func() {
			if _, err := PushImage(t.Context(), faulty.Host()+"/app", once); err != nil {
				t.Error(err)
			}
		})
	}
	pushes.Wait()
	cancel()
	rules.Wait()
	if got := faulty.Count()[Call{http.MethodPut, EndpointManifests}]; got != 8 {
		t.Errorf("%d manifests, want 8", got)
	}
}

func TestEndpointOf_ReadsLastPathElements(t *testing.T) {
	for path, want := range map[string]Endpoint{
		"/v2/":                                 EndpointOther,
		"/v2/_catalog":                         EndpointOther,
		"/v2/a/manifests/latest":               EndpointManifests,
		"/v2/a/b/blobs/sha256:1":               EndpointBlobs,
		"/v2/a/blobs/uploads/":                 EndpointUploads,
		"/v2/a/blobs/uploads/1":                EndpointUploads,
		"/v2/a/referrers/sha256:1":             EndpointReferrers,
		"/v2/a/tags/list":                      EndpointTags,
		"/v2/manifests/tags/manifests/v1":      EndpointManifests,
		"/v2/blobs/uploads/blobs/sha256:1":     EndpointBlobs,
		"/v2/blobs/uploads/blobs/uploads/1":    EndpointUploads,
		"/v2/manifests/blobs/referrers/sha256": EndpointReferrers,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://registry"+path, nil)
		check(t, err)
		if got := EndpointOf(request); got != want {
			t.Errorf("%s: got endpoint %q, want %q", path, got, want)
		}
	}
}

func latest(t *testing.T, proxy *Proxy) name.Tag {
	t.Helper()
	tag, err := name.NewTag(proxy.Host() + "/app:latest")
	check(t, err)
	return tag
}

// eventually waits until happened returns true.
func eventually(t *testing.T, happened func() bool) {
	t.Helper()
	check(t, wait.PollUntilContextTimeout(t.Context(), PollInterval, startTimeout, true,
		func(context.Context) (bool, error) { return happened(), nil }))
}
