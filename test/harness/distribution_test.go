// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func startDistribution(t *testing.T, options DistributionOptions) *Distribution {
	t.Helper()
	check(t, BuildDistribution(t.Context(), os.Stderr))
	d, err := StartDistribution(t.Context(), io.Discard, options)
	check(t, err)
	t.Cleanup(func() { check(t, d.Stop()) })
	return d
}

func TestDistribution_StoresImagesAndReferrers(t *testing.T) {
	d := startDistribution(t, DistributionOptions{})
	image, err := PushImage(t.Context(), d.Host()+"/app", once)
	check(t, err)
	if got := hasReferrers(t, image); got != DistributionHasReferrers {
		t.Errorf("referrers API: got %v, want %v", got, DistributionHasReferrers)
	}
	attached := attach(t, image, once)
	if got := referrers(t, image, once); len(got) != 1 || got[0].Digest != attached {
		t.Errorf("got referrers %v, want %s", got, attached)
	}
	if !strings.Contains(d.Log(), "PUT /v2/app/manifests/"+image.DigestStr()) {
		t.Errorf("the log has no line for the image:\n%s", d.Log())
	}

	check(t, remote.Delete(image, remote.WithContext(t.Context()), once))
	_, err = remote.Get(image, remote.WithContext(t.Context()), once)
	fails(t, err, http.StatusNotFound)
}

// Uploads continue at the address of the proxy, not at the address of the registry.
func TestDistribution_AcceptsUploadsThroughProxy(t *testing.T) {
	d := startDistribution(t, DistributionOptions{})
	proxy, err := StartProxy(t.Context(), d.Host())
	check(t, err)
	t.Cleanup(func() { check(t, proxy.Stop()) })
	_, err = PushImage(t.Context(), proxy.Host()+"/app", once)
	check(t, err)
	if got := proxy.Count(); got[Call{http.MethodPut, EndpointUploads}] != 2 || got[Call{http.MethodPut, EndpointManifests}] != 1 {
		t.Errorf("requests through the proxy: %v, want 2 uploads and 1 manifest", got)
	}
	response, err := do(t.Context(), http.MethodPost, "http://"+proxy.Host()+"/v2/app/blobs/uploads/", nil)
	check(t, err)
	if got := response.header.Get("Location"); !strings.HasPrefix(got, "/v2/app/blobs/uploads/") {
		t.Errorf("got Location %s, want a path without a host", got)
	}
}

func TestDistribution_RejectsWrongPasswords(t *testing.T) {
	for _, tls := range []bool{false, true} {
		d := startDistribution(t, DistributionOptions{TLS: tls, Users: map[string]string{"alice": "secret", "bob": "other"}})
		push := func(user, password string) error {
			_, err := PushImage(t.Context(), d.Host()+"/app", once, remote.WithTransport(d.Transport()),
				remote.WithAuth(&authn.Basic{Username: user, Password: password}))
			return err
		}
		check(t, push("alice", "secret"))
		check(t, push("bob", "other"))
		fails(t, push("alice", "other"), http.StatusUnauthorized)
		fails(t, push("carol", "secret"), http.StatusUnauthorized)
		_, err := PushImage(t.Context(), d.Host()+"/app", once, remote.WithTransport(d.Transport()))
		fails(t, err, http.StatusUnauthorized)
	}
}

// Each registry has its own certificate, and clients of another registry do not trust it.
func TestDistribution_ServesOnlyTLSWhenEnabled(t *testing.T) {
	d, other := startDistribution(t, DistributionOptions{TLS: true}), startDistribution(t, DistributionOptions{TLS: true})
	image, err := PushImage(t.Context(), d.Host()+"/app", once, remote.WithTransport(d.Transport()))
	check(t, err)
	response, err := do(t.Context(), http.MethodGet, "http://"+d.Host()+"/v2/", nil)
	check(t, err)
	if response.status != http.StatusBadRequest {
		t.Errorf("HTTP without TLS: got status %d, want %d", response.status, http.StatusBadRequest)
	}
	pem, err := os.ReadFile(d.CA())
	check(t, err)
	if !strings.HasPrefix(string(pem), "-----BEGIN CERTIFICATE-----\n") {
		t.Errorf("got certificate\n%s\nwant PEM", pem)
	}
	for _, transport := range []*http.Transport{other.Transport(), {}} {
		if _, err := remote.Get(image, remote.WithContext(t.Context()), once, remote.WithTransport(transport)); err == nil {
			t.Error("a client without the certificate trusts the registry")
		}
	}
}

func TestDistribution_StopRemovesFiles(t *testing.T) {
	check(t, BuildDistribution(t.Context(), os.Stderr))
	d, err := StartDistribution(t.Context(), io.Discard, DistributionOptions{})
	check(t, err)
	check(t, d.Stop())
	if answers(t, d.Host()) {
		t.Error("the registry responds after Stop")
	}
	if _, err := os.Stat(d.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the files still exist after Stop: %v", err)
	}
	if d.Stop() == nil {
		t.Error("a second Stop returned no error")
	}
}

// fails requires the error of a registry that responds with a status.
func fails(t *testing.T, err error, status int) {
	t.Helper()
	var refused *transport.Error
	if !errors.As(err, &refused) || refused.StatusCode != status {
		t.Errorf("got error %v, want status %d", err, status)
	}
}
