// Package registry reads and writes an OCI registry: as few requests as the
// distribution specification allows, everything bounded, everything verified
// against its digest.
package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
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

// ErrNotFound says that there is no such manifest or blob.
var ErrNotFound = errdef.ErrNotFound

// Keychains gives the credentials that hold now.
type Keychains interface {
	Keychain(ctx context.Context) (authn.Keychain, error)
}

// Options say how to reach registries.
type Options struct {
	// Insecure accepts any certificate, and plain HTTP, like Chains'
	// storage.oci.repository.insecure.
	Insecure bool
	// Keychains may be nil: no credentials.
	Keychains Keychains
	// Locks keeps the writers of other processes away; nil: there are none.
	Locks Locks
}

// Client reaches registries. It remembers what each can do.
type Client struct {
	options   Options
	transport http.RoundTripper
	locks     *locks
	contacts  singleflight.Group // with hosts, the first of each

	mu           sync.Mutex
	hosts        map[string]*host
	repositories map[string]*Repository
}

// host is what is known of a registry.
type host struct {
	plainHTTP bool
	// refusesSinglePost: it wants blobs in two requests.
	refusesSinglePost atomic.Bool
}

const (
	// responseHeaderTimeout bounds how long a registry may think.
	responseHeaderTimeout = 20 * time.Second
	// contactTimeout bounds the first contact with a registry.
	contactTimeout = 30 * time.Second
	maxIdlePerHost = 64
)

// NewClient makes a client. Certificates are verified with those of the system, or
// of SSL_CERT_FILE and SSL_CERT_DIR.
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
		options: options, transport: bounded{base}, locks: newLocks(options.Locks),
		hosts: map[string]*host{}, repositories: map[string]*Repository{},
	}
}

// Repository is one repository of a registry, "registry.example/a/b".
func (c *Client) Repository(ctx context.Context, repository string) (*Repository, error) {
	c.mu.Lock()
	known := c.repositories[repository]
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	parsed, err := ParseRepository(repository)
	if err != nil {
		return nil, err
	}
	h, err := c.host(ctx, parsed.Registry)
	if err != nil {
		return nil, err
	}
	r, err := c.newRepository(parsed, h)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.repositories[repository]; known != nil {
		return known, nil // somebody was faster
	}
	if len(c.repositories) >= maxRepositories {
		clear(c.repositories) // what is known of them is soon found out again
	}
	c.repositories[repository] = r
	return r, nil
}

// maxRepositories bounds what is remembered.
const maxRepositories = 10_000

// ParseRepository reads the name of a repository, which must name its registry.
func ParseRepository(repository string) (name.Repository, error) {
	parsed, err := name.NewRepository(repository, name.StrictValidation)
	if err == nil {
		_, err = registry.ParseReference(repository) // which knows that ".." is no component
	}
	if err != nil {
		return parsed, fmt.Errorf("repository %.300q: %w", repository, err)
	}
	return parsed, nil
}

// ParseReference takes "registry/repository:tag" or "…@digest" apart.
func ParseReference(reference string) (repository, version string, err error) {
	parsed, err := name.ParseReference(reference, name.StrictValidation)
	if err != nil {
		return "", "", fmt.Errorf("reference %.300q: %w", reference, err)
	}
	return parsed.Context().Name(), parsed.Identifier(), nil
}

// host finds out whether a registry speaks HTTPS, in the way of
// go-containerregistry: with plain HTTP only on this machine and in private
// networks, or where Insecure says so.
func (c *Client) host(ctx context.Context, registry name.Registry) (*host, error) {
	c.mu.Lock()
	known := c.hosts[registry.RegistryStr()]
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	if c.options.Insecure {
		var err error
		if registry, err = name.NewRegistry(registry.RegistryStr(), name.Insecure); err != nil {
			return nil, err
		}
	}
	contact := c.contacts.DoChan(registry.RegistryStr(), func() (any, error) { // for all who wait
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), contactTimeout)
		defer cancel()
		challenge, err := transport.Ping(ctx, registry, c.transport)
		if err != nil {
			return nil, unanswered{fmt.Errorf("registry %s: %w", registry, err)}
		}
		found := &host{plainHTTP: challenge.Insecure}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hosts[registry.RegistryStr()] = found
		return found, nil
	})
	select {
	case result := <-contact:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*host), nil //nolint:forcetypeassert // see above
	case <-ctx.Done():
		return nil, fmt.Errorf("registry %s: %w", registry, ctx.Err())
	}
}

func (c *Client) newRepository(parsed name.Repository, h *host) (*Repository, error) {
	r, err := remote.NewRepository(parsed.Name())
	if err != nil {
		return nil, err
	}
	r.Client = &auth.Client{
		Client:     &http.Client{Transport: c.transport},
		Cache:      auth.NewCache(),
		Credential: func(ctx context.Context, _ string) (auth.Credential, error) { return c.credential(ctx, parsed) },
	}
	r.PlainHTTP = h.plainHTTP
	r.MaxMetadataBytes = maxMetadata
	r.ReferrerListMaxPages = maxPages
	r.SkipReferrersGC = true // somebody may be reading the index that was
	return &Repository{name: parsed, remote: r, host: h, locks: c.locks}, nil
}

func (c *Client) credential(ctx context.Context, repository name.Repository) (auth.Credential, error) {
	if c.options.Keychains == nil {
		return auth.EmptyCredential, nil
	}
	keychain, err := c.options.Keychains.Keychain(ctx)
	if err != nil {
		return auth.EmptyCredential, unanswered{fmt.Errorf("credentials for %s: %w", repository, err)}
	}
	authenticator, err := authn.Resolve(ctx, keychain, repository)
	if err != nil {
		return auth.EmptyCredential, unanswered{fmt.Errorf("credentials for %s: %w", repository, err)}
	}
	config, err := authn.Authorization(ctx, authenticator)
	if err != nil {
		return auth.EmptyCredential, unanswered{fmt.Errorf("credentials for %s: %w", repository, err)}
	}
	return auth.Credential{
		Username: config.Username, Password: config.Password,
		RefreshToken: config.IdentityToken, AccessToken: config.RegistryToken,
	}, nil
}

// IsNotFound says whether an error means that there is no such thing.
func IsNotFound(err error) bool { return errors.Is(err, ErrNotFound) || nameUnknown(err) }
