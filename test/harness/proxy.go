// SPDX-License-Identifier: Apache-2.0

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

// Proxy is an HTTP proxy in front of a real registry. It counts the requests and
// injects faults: a Fault is one misbehaviour, a Rule says which requests get a
// fault. Like the registry, the proxy serves HTTP without TLS.
//
// Proxy is for tests whose registry is a program or a server of its own, such as
// a Distribution, and for tests of the controller. Unit tests use the package
// pkg/oci/registry/registrytest, which is a registry in memory with the same two
// words: fault and rule.
type Proxy struct {
	*server
	upstream  *url.URL
	transport http.RoundTripper

	mu     sync.Mutex
	rule   Rule
	counts Counts
}

// Rule returns the fault that a request gets, or nil to forward the request. The
// proxy calls the rule for one request at a time, so the rule may keep a count.
// The rule must not block and must not read the body.
type Rule func(*http.Request) Fault

// StartProxy starts a proxy for the registry at a host and port. The proxy forwards
// all requests until Set is called.
func StartProxy(ctx context.Context, upstreamHost string) (*Proxy, error) {
	p := &Proxy{
		upstream: &url.URL{Scheme: "http", Host: upstreamHost},
		// A kept connection could be from before a restart of the registry, and
		// compression by the transport would change the headers.
		transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		counts:    Counts{},
	}
	var err error
	p.server, err = serve(ctx, http.HandlerFunc(p.handle))
	return p, err
}

// Host returns the host and port of the proxy, for references to images in the
// registry behind the proxy.
func (p *Proxy) Host() string { return p.address }

// Set replaces the rule for all further requests. Without a rule (nil) the proxy
// forwards all requests.
func (p *Proxy) Set(rule Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = rule
}

// Count returns the number of requests so far, including those that got a fault.
func (p *Proxy) Count() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

func (p *Proxy) handle(w http.ResponseWriter, r *http.Request) {
	if fault := p.decide(r); fault != nil {
		fault(p, w, r)
		return
	}
	p.forward(w, r, nil)
}

func (p *Proxy) decide(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[Call{r.Method, EndpointOf(r)}]++
	if p.rule == nil {
		return nil
	}
	return p.rule(r)
}

// forward sends a request to the registry and returns the response to the client.
// If change is not nil, the body of the response goes through it first.
func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, change func([]byte) []byte) {
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(request *httputil.ProxyRequest) { request.SetURL(p.upstream) },
		Transport: p.transport,
		ErrorLog:  log.New(io.Discard, "", 0),
		ModifyResponse: func(response *http.Response) error {
			p.keepClientHere(response)
			if change == nil || r.Method == http.MethodHead {
				return nil
			}
			return changeBody(response, change)
		},
	}
	proxy.ServeHTTP(w, r)
}

// keepClientHere makes a Location header relative if it names the registry itself.
// Otherwise the client's next request would bypass the proxy.
func (p *Proxy) keepClientHere(response *http.Response) {
	location, err := response.Location()
	if err != nil || location.Host != p.upstream.Host {
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
