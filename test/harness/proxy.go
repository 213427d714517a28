package harness

import (
	"bytes"
	"context"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
)

// Faults is a proxy in front of a registry that counts the requests and does to
// them what a test says. Like the registry it speaks HTTP without TLS.
type Faults struct {
	*server
	upstream  *url.URL
	transport http.RoundTripper

	mu     sync.Mutex
	rule   Rule
	counts Counts
}

// Rule says what happens to a request. It is asked about one request at a time,
// so that it may count, and must neither wait nor read the body.
type Rule func(*http.Request) Fault

// StartProxy starts a proxy for the registry at a host and port. It lets all
// requests pass until Set.
func StartProxy(ctx context.Context, upstreamHost string) (*Faults, error) {
	f := &Faults{
		upstream: &url.URL{Scheme: "http", Host: upstreamHost},
		// Neither a connection from before the registry was down nor an encoding
		// of the transport's own comes between the client and the registry.
		transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		counts:    Counts{},
	}
	var err error
	f.server, err = serve(ctx, http.HandlerFunc(f.handle))
	return f, err
}

// Host is where references to images in the registry behind it start.
func (f *Faults) Host() string { return f.address }

// Set makes a rule that of all requests from now on; nil lets all pass.
func (f *Faults) Set(rule Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

// Count is how many requests there have been, those that met a fault included.
func (f *Faults) Count() Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.counts)
}

func (f *Faults) handle(w http.ResponseWriter, r *http.Request) {
	if fault := f.decide(r); fault != nil {
		fault(f, w, r)
		return
	}
	f.forward(w, r, nil)
}

func (f *Faults) decide(r *http.Request) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[Call{r.Method, EndpointOf(r)}]++
	if f.rule == nil {
		return nil
	}
	return f.rule(r)
}

// forward passes a request on, and the response back with its body changed.
func (f *Faults) forward(w http.ResponseWriter, r *http.Request, change func([]byte) []byte) {
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(f.upstream) },
		Transport: f.transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		ModifyResponse: func(response *http.Response) error {
			f.keepHere(response)
			if change == nil || r.Method == http.MethodHead {
				return nil
			}
			return changeBody(response, change)
		},
	}
	proxy.ServeHTTP(w, r)
}

// keepHere takes the registry's own address out of where the client goes next.
func (f *Faults) keepHere(response *http.Response) {
	location, err := response.Location()
	if err != nil || location.Host != f.upstream.Host {
		return
	}
	location.Scheme, location.Host = "", ""
	response.Header.Set("Location", location.String())
}

func changeBody(response *http.Response, change func([]byte) []byte) error {
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	body = change(body)
	response.ContentLength = int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	response.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(body), response.Body}
	return nil
}
