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

// soonEnough is what a fault may keep a test waiting for.
const soonEnough = 200 * time.Millisecond

// once keeps the client from retrying, and what it does a matter of the fault.
var once = remote.WithRetryBackoff(remote.Backoff{Steps: 1})

// startProxies starts a registry and two proxies in a row in front of it: the
// first makes faults, the second counts what comes through.
func startProxies(t *testing.T) (faulty, counting *Faults) {
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

// on makes a fault of all requests to an endpoint with one of the methods.
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

// answer is what there is of a response, when it ends or fails.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request that no client library has to do with, with a body of a
// length that is known.
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
		t.Errorf("%v came in and %v came out", pushed, got)
	}

	content, err := remote.Image(image, remote.WithContext(t.Context()), once)
	check(t, err)
	if _, err := content.RawConfigFile(); err != nil {
		t.Error(err)
	}
	pulled := faulty.Count().Since(pushed)
	if pulled.By(http.MethodGet) != pulled.Total() || pulled.At(EndpointManifests) != 1 || pulled.At(EndpointBlobs) != 1 {
		t.Errorf("pulling made the requests %v", pulled)
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
		t.Errorf("%d of the refused manifests came through", got)
	}
}

// A rule may count: it is asked about one request after another.
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

// The connection ends while the client is still sending: what it sends is more
// than fits into any buffer.
func TestCutOff_ClosesConnectionDuringUpload(t *testing.T) {
	faulty, counting := startProxies(t)
	faulty.Set(on(EndpointUploads, CutOff(), http.MethodPatch))
	sent := &countingReader{Reader: bytes.NewReader(make([]byte, 64<<20))}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "http://"+faulty.Host()+"/v2/app/blobs/uploads/1", io.NopCloser(sent))
	check(t, err)
	request.ContentLength = 64 << 20
	response, err := (&http.Transport{}).RoundTrip(request)
	if err == nil {
		t.Errorf("it answers with status %d", response.StatusCode)
		check(t, response.Body.Close())
	}
	if sent.n < 32<<20 || sent.n >= 64<<20 {
		t.Errorf("it was cut off after %d of %d bytes", sent.n, 64<<20)
	}
	if _, err := PushImage(t.Context(), faulty.Host()+"/app", once); err == nil {
		t.Error("an image is pushed nevertheless")
	}
	if got := counting.Count().By(http.MethodPatch); got != 0 {
		t.Errorf("%d of the uploads came through", got)
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
		return func(f *Faults, w http.ResponseWriter, r *http.Request) {
			close(arrived)
			Hang()(f, w, r)
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
		t.Fatalf("it answers; error %v", err)
	case <-time.After(soonEnough):
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	<-gone // and does not stay for ever
	if got := counting.Count().Total(); got != 0 {
		t.Errorf("%d requests came through", got)
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
		t.Error("it answers after Stop")
	}
	check(t, faulty.Start(t.Context()))
	faulty.Set(nil)
	if !answers(t, faulty.Host()) {
		t.Error("it does not answer after Start")
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
		t.Errorf("%d manifests came through before the release", got)
	}
	close(release)
	check(t, <-pushed)
	if got := counting.Count()[put]; got != 1 {
		t.Errorf("%d manifests came through after the release", got)
	}
}

// A client that reads to the end never ends, and one with a limit does.
func TestEndless_NeverEndsResponse(t *testing.T) {
	faulty, _ := startProxies(t)
	faulty.Set(on(EndpointManifests, Endless(), http.MethodGet))
	ctx, cancel := context.WithTimeout(t.Context(), soonEnough)
	defer cancel()
	response, err := do(ctx, http.MethodGet, "http://"+faulty.Host()+"/v2/app/manifests/latest", nil)
	if !errors.Is(err, context.DeadlineExceeded) || response.status != http.StatusOK || response.body == "" {
		t.Errorf("status %d, and the body ended after %d bytes with %v", response.status, len(response.body), err)
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
		t.Errorf("the manifest is %q with header %v", response.body, response.header)
	}
	if _, err := remote.Head(image, remote.WithContext(t.Context()), once); err != nil {
		t.Errorf("HEAD, which has no body: %v", err)
	}
	faulty.Set(nil)
	if _, err := pull(); err != nil {
		t.Error(err)
	}
}

// The client believes that all is well, and the registry has nothing.
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
		t.Errorf("what came through: %v, want reads", arrived)
	}
	var missing *transport.Error
	if _, err := remote.Get(image, remote.WithContext(t.Context()), once); !errors.As(err, &missing) || missing.StatusCode != http.StatusNotFound {
		t.Errorf("got error %v, want that it is not there", err)
	}
}

// It is for many clients at once, while rules come and go.
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
			t.Errorf("%s is about %q, want %q", path, got, want)
		}
	}
}

func latest(t *testing.T, proxy *Faults) name.Tag {
	t.Helper()
	tag, err := name.NewTag(proxy.Host() + "/app:latest")
	check(t, err)
	return tag
}

// eventually waits for what happens on another goroutine.
func eventually(t *testing.T, happened func() bool) {
	t.Helper()
	check(t, wait.PollUntilContextTimeout(t.Context(), pollInterval, startTimeout, true,
		func(context.Context) (bool, error) { return happened(), nil }))
}
