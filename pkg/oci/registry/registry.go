// SPDX-License-Identifier: Apache-2.0

// Package registry reads and writes manifests, blobs and referrers of OCI
// registries through oras-go. The size of every response is bounded, and all
// content is verified against its digest.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/singleflight"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// ErrNotFound means that the registry has no such manifest or blob.
var ErrNotFound = errdef.ErrNotFound

// Keychains returns the current credentials of registries. The client asks
// again whenever a registry rejects its credentials, so that credentials can be
// rotated without a restart.
type Keychains interface {
	Keychain(ctx context.Context) (authn.Keychain, error)
}

// Options configure a Client.
type Options struct {
	// Insecure accepts any TLS certificate, and registries without TLS. It has
	// the meaning of Chains' setting storage.oci.repository.insecure.
	Insecure bool
	// Keychains returns credentials; nil: requests are anonymous.
	Keychains Keychains
	// Locks serializes the writers of all processes; nil: this process is the
	// only writer.
	Locks Locks
	// Requested, if not nil, is told of each HTTP request: how long the answer took to begin,
	// and its status, 0 if there was none.
	Requested func(ctx context.Context, method string, status int, took time.Duration)
}

// Client connects to registries. It caches which registries speak TLS and which
// repositories list referrers.
type Client struct {
	options   Options
	transport http.RoundTripper
	locks     *referrerLocks
	pings     singleflight.Group // one first request for each registry at a time

	mu           sync.Mutex             // guards the fields below
	plainHTTP    map[string]bool        // by registry
	repositories map[string]*Repository // by name
	breakers     map[string]*breaker    // by registry
}

const (
	// responseHeaderTimeout bounds the time until a response starts.
	responseHeaderTimeout = 20 * time.Second
	// pingTimeout bounds the first request to a registry.
	pingTimeout    = 30 * time.Second
	maxIdlePerHost = 64
	// maxRepositories bounds the cache of repositories, and maxRegistries what is
	// known of registries.
	maxRepositories = 10_000
	maxRegistries   = 1_000
)

// NewClient returns a client. It verifies TLS certificates with the root
// certificates of the system, or with those of SSL_CERT_FILE and SSL_CERT_DIR.
func NewClient(options Options) *Client {
	base, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		base = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	base = base.Clone()
	base.ResponseHeaderTimeout = responseHeaderTimeout
	base.MaxIdleConnsPerHost = maxIdlePerHost
	if options.Insecure {
		base.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // what Chains' setting says
	}
	return &Client{
		options: options, transport: limitingTransport{observedTransport{base, options.Requested}}, locks: newReferrerLocks(options.Locks),
		plainHTTP: map[string]bool{}, repositories: map[string]*Repository{}, breakers: map[string]*breaker{},
	}
}

// Repository returns a repository by its name with the registry, such as
// "registry.example/a/b". It sends a request only for the first repository of a
// registry.
func (c *Client) Repository(ctx context.Context, repository string) (*Repository, error) {
	c.mu.Lock()
	cached := c.repositories[repository]
	c.mu.Unlock()
	if cached != nil {
		return cached, nil
	}
	parsed, err := ParseRepository(repository)
	if err != nil {
		return nil, err
	}
	plainHTTP, err := c.usesPlainHTTP(ctx, parsed.Registry)
	if err != nil {
		return nil, err
	}
	created, err := c.newRepository(parsed, plainHTTP)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cached := c.repositories[repository]; cached != nil {
		return cached, nil // another goroutine was faster
	}
	if len(c.repositories) >= maxRepositories {
		clear(c.repositories) // the cached facts cost one request each to find again
	}
	c.repositories[repository] = created
	return created, nil
}

// ParseRepository parses the name of a repository. The name must contain the
// registry.
func ParseRepository(repository string) (name.Repository, error) {
	parsed, err := name.NewRepository(repository, name.StrictValidation)
	if err == nil {
		_, err = registry.ParseReference(repository) // rejects the path component "..", which name accepts
	}
	if err != nil {
		return parsed, fmt.Errorf("repository %.300q: %w", repository, err)
	}
	return parsed, nil
}

// ParseReference splits "registry/repository:tag" or
// "registry/repository@digest" into the repository and the tag or digest.
func ParseReference(reference string) (repository, version string, err error) {
	parsed, err := name.ParseReference(reference, name.StrictValidation)
	if err != nil {
		return "", "", fmt.Errorf("reference %.300q: %w", reference, err)
	}
	return parsed.Context().Name(), parsed.Identifier(), nil
}

// usesPlainHTTP reports whether a registry speaks HTTP without TLS. As
// go-containerregistry does, it tries plain HTTP only for registries on this
// machine and in private networks, or if Options.Insecure is set.
func (c *Client) usesPlainHTTP(ctx context.Context, registry name.Registry) (bool, error) {
	c.mu.Lock()
	plainHTTP, cached := c.plainHTTP[registry.RegistryStr()]
	c.mu.Unlock()
	if cached {
		return plainHTTP, nil
	}
	if c.options.Insecure {
		var err error
		if registry, err = name.NewRegistry(registry.RegistryStr(), name.Insecure); err != nil {
			return false, err
		}
	}
	done, err := c.breaker(registry.RegistryStr()).allow()
	if err != nil {
		return false, err
	}
	ping := c.pings.DoChan(registry.RegistryStr(), func() (any, error) {
		// Other goroutines may wait for this request, so it outlives ctx.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pingTimeout)
		defer cancel()
		challenge, err := transport.Ping(ctx, registry, c.transport)
		if err != nil {
			return false, unavailableError{fmt.Errorf("registry %s: %w", registry, err)}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.plainHTTP[registry.RegistryStr()] = challenge.Insecure
		return challenge.Insecure, nil
	})
	select {
	case result := <-ping:
		done(result.Err)
		plainHTTP, _ := result.Val.(bool)
		return plainHTTP, result.Err
	case <-ctx.Done():
		done(ctx.Err())
		return false, fmt.Errorf("registry %s: %w", registry, ctx.Err())
	}
}

// breaker returns the breaker of a registry. It also counts the requests to hosts
// to which the registry redirects.
func (c *Client) breaker(registry string) *breaker {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, found := c.breakers[registry]
	if !found {
		if len(c.breakers) >= maxRegistries {
			clear(c.breakers)
		}
		b = newBreaker(registry)
		c.breakers[registry] = b
	}
	return b
}

func (c *Client) newRepository(parsed name.Repository, plainHTTP bool) (*Repository, error) {
	client := &auth.Client{
		Client:     &http.Client{Transport: breakingTransport{c.transport, c.breaker(parsed.RegistryStr())}},
		Cache:      auth.NewCache(),
		Credential: func(ctx context.Context, _ string) (auth.Credential, error) { return c.credential(ctx, parsed) },
	}
	newRemote := func() (*remote.Repository, error) {
		r, err := remote.NewRepository(parsed.Name())
		if err != nil {
			return nil, err
		}
		r.Client = client
		r.PlainHTTP = plainHTTP
		r.MaxMetadataBytes = maxMetadata
		r.ReferrerListMaxPages = maxPages
		r.TagListPageSize, r.TagListMaxPages = tagsPerPage, maxTagPages
		r.SkipReferrersGC = true // another process may still read the previous index
		return r, nil
	}
	indexing, err := newRemote()
	if err != nil {
		return nil, err
	}
	plain, err := newRemote()
	if err != nil {
		return nil, err
	}
	if err := plain.SetReferrersCapability(true); err != nil {
		return nil, err
	}
	return &Repository{name: parsed, remote: indexing, withoutIndexing: plain, locks: c.locks}, nil
}

func (c *Client) credential(ctx context.Context, repository name.Repository) (auth.Credential, error) {
	if c.options.Keychains == nil {
		return auth.EmptyCredential, nil
	}
	config, err := c.authConfig(ctx, repository)
	if err != nil {
		return auth.EmptyCredential, unavailableError{fmt.Errorf("credentials for %s: %w", repository, err)}
	}
	return auth.Credential{
		Username: config.Username, Password: config.Password,
		RefreshToken: config.IdentityToken, AccessToken: config.RegistryToken,
	}, nil
}

func (c *Client) authConfig(ctx context.Context, repository name.Repository) (*authn.AuthConfig, error) {
	keychain, err := c.options.Keychains.Keychain(ctx)
	if err != nil {
		return nil, err
	}
	authenticator, err := authn.Resolve(ctx, keychain, repository)
	if err != nil {
		return nil, err
	}
	return authn.Authorization(ctx, authenticator)
}

// IsNotFound reports whether an error means that the registry has no such
// manifest, blob or repository.
func IsNotFound(err error) bool { return errors.Is(err, ErrNotFound) || isStatusNotFound(err) }
