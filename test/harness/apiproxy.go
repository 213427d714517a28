// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// APIProxy is an HTTP proxy in front of the API server. It can hold back the responses to
// some of the requests, also those of watches that began before. The credentials of the
// clients go through.
type APIProxy struct {
	*server
	proxy *httputil.ReverseProxy

	mu     sync.Mutex
	frozen func(*http.Request) bool // nil if no response is held back
	thawed chan struct{}            // closed when frozen becomes nil
}

// StartAPIProxy starts a proxy in front of the API server of the cluster.
func (c *Cluster) StartAPIProxy(ctx context.Context) (*APIProxy, error) {
	upstream, err := url.Parse(c.Admin.Host)
	if err != nil {
		return nil, err
	}
	anonymous := rest.AnonymousClientConfig(c.Admin)
	transport, err := rest.TransportFor(anonymous)
	if err != nil {
		return nil, err
	}
	p := &APIProxy{}
	p.proxy = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		Transport:     transport,
		FlushInterval: -1, // events of watches go through at once
		ErrorLog:      log.New(io.Discard, "", 0),
		ModifyResponse: func(response *http.Response) error {
			response.Body = &heldBody{response.Body, p, response.Request}
			return nil
		},
	}
	p.server, err = serve(ctx, p.proxy)
	return p, err
}

// WatchesOf matches watches of a resource, such as "verificationpolicies".
func WatchesOf(resource string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return r.URL.Query().Get("watch") == "true" && strings.HasSuffix(r.URL.Path, "/"+resource)
	}
}

// Freeze holds back all responses to the matching requests until Thaw. Nothing is lost.
func (p *APIProxy) Freeze(match func(*http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen, p.thawed = match, make(chan struct{})
}

// Thaw ends Freeze.
func (p *APIProxy) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != nil {
		p.frozen = nil
		close(p.thawed)
	}
}

// wait waits while the response to a request is held back.
func (p *APIProxy) wait(r *http.Request) error {
	p.mu.Lock()
	held, thawed := p.frozen != nil && p.frozen(r), p.thawed
	p.mu.Unlock()
	if !held {
		return nil
	}
	select {
	case <-thawed:
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

// heldBody is the body of a response. What was read from the API server during a Freeze
// comes out after it.
type heldBody struct {
	io.ReadCloser
	proxy   *APIProxy
	request *http.Request
}

func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if waited := b.proxy.wait(b.request); waited != nil {
		return 0, waited
	}
	return n, err
}

// Kubeconfig writes a copy of a kubeconfig whose server is the proxy, and returns the path
// of the copy.
func (p *APIProxy) Kubeconfig(original, dir string) (string, error) {
	file := filepath.Join(dir, "proxied-"+filepath.Base(original))
	return file, p.redirect(original, file)
}

func (p *APIProxy) redirect(original, file string) error {
	config, err := clientcmd.LoadFromFile(original)
	if err != nil {
		return err
	}
	for _, cluster := range config.Clusters {
		cluster.Server, cluster.CertificateAuthority, cluster.CertificateAuthorityData = "http://"+p.address, "", nil
	}
	return clientcmd.WriteToFile(*config, file)
}

// Redirect makes the controller of Tekton use the proxy. undo makes it use the API server
// again.
func (p *APIProxy) Redirect(ctx context.Context, c *Cluster) (undo func(context.Context) error, err error) {
	identity := filepath.Join(c.Dir, "identities", PartTektonController+".kubeconfig")
	original, err := clientcmd.LoadFromFile(identity)
	if err != nil {
		return nil, err
	}
	undo = func(ctx context.Context) error {
		return errors.Join(clientcmd.WriteToFile(*original, identity), c.Control(ctx, "restart", PartTektonController))
	}
	if err := p.redirect(identity, identity); err != nil {
		return nil, err
	}
	return undo, c.Control(ctx, "restart", PartTektonController)
}
