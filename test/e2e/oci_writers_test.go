// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tektoncd/chains/pkg/chains/signing"
	"github.com/tektoncd/pipeline/pkg/resolution/resolver/bundle"
	"golang.org/x/sync/errgroup"

	"github.com/trusted-resources/chains-extension/pkg/controllers/leases"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/test/fixtures"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// newKey returns a new signing key and its public key.
func (e *env) newKey() (*keys.Key, crypto.PublicKey) {
	e.t.Helper()
	secret, public, err := fixtures.X509Secret()
	e.check(err)
	dir := e.t.TempDir()
	e.check(secret.Write(dir))
	return e.loadKey(dir), public
}

// loadKey returns the signing key in a signing secret.
func (e *env) loadKey(dir string) *keys.Key {
	e.t.Helper()
	key, err := keys.Load(e.t.Context(), dir, keys.Settings{SignerTypes: []string{signing.TypeX509}}).Active(signing.TypeX509)
	e.check(err)
	return key
}

// Two replicas with four writers each sign the same bundle. Without the referrers API,
// each writer reads, changes and writes the same index. At the end our reader and
// cosign find all signatures.
func TestSign_KeepsSignaturesOfConcurrentWriters(t *testing.T) {
	const replicas, writers = 2, 4
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			host := start(e)
			owner, public := e.newKey()
			store := newReader(host)
			stored, err := store.Put(t.Context(), newTask("prod", "build"), nil, owner, tekton.Newest)
			e.check(err)

			trusted := append(make([]crypto.PublicKey, 0, 1+replicas*writers), public)
			group, ctx := errgroup.WithContext(t.Context())
			for range replicas {
				client := registry.NewClient(registry.Options{
					Locks: leases.New(cluster.Kube.CoordinationV1(), harness.SystemNamespace),
				})
				for range writers {
					key, public := e.newKey()
					trusted = append(trusted, public)
					group.Go(func() error {
						_, err := oci.Sign(ctx, client, stored.Reference, key, imagesignature.Options{})
						return err
					})
				}
			}
			e.check(group.Wait())
			found, err := oci.Inspect(t.Context(), newReader(host).Registry, stored.Reference, e.keyRing(trusted...))
			e.check(err)
			if len(found.Signers) != 1+replicas*writers {
				t.Errorf("found %d of %d signatures, not verified: %v", len(found.Signers), 1+replicas*writers, found.Unverified)
			}
			for _, public := range trusted {
				e.public = public
				e.expectCosignAccepts(stored.Reference)
			}
		})
	}
}

// A second replica gets the lease only after the first one has released it, and then at
// once.
func TestLeases_ExcludeOtherReplicas(t *testing.T) {
	e := &env{t: t}
	replica := func() *leases.Leases { return leases.New(cluster.Kube.CoordinationV1(), harness.SystemNamespace) }
	held, release := make(chan struct{}), make(chan struct{})
	group, ctx := errgroup.WithContext(t.Context())
	group.Go(func() error {
		return replica().Do(ctx, "test", func(context.Context) error { close(held); <-release; return nil })
	})
	<-held
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := replica().Do(short, "test", func(context.Context) error { t.Error("two replicas hold the lease"); return nil })
	if err == nil {
		t.Error("a replica continued without the lease")
	}
	close(release)
	e.check(group.Wait())
	began := time.Now()
	e.check(replica().Do(t.Context(), "test", func(context.Context) error { return nil }))
	if waited := time.Since(began); waited > 5*time.Second {
		t.Errorf("getting the released lease took %v, want at most 5s", waited)
	}
}

// A controller restarts after it has stored a thousand resources. It makes one request
// for each resource and uploads nothing.
func TestStoring_UploadsNothingAfterRestart(t *testing.T) {
	const count = 1000
	e := newEnv(t)
	proxy, err := harness.StartProxy(t.Context(), e.startRegistry().Host())
	e.check(err)
	e.cleanup(proxy.Stop)
	e.configureStore(proxy.Host(), "tekton,oci")
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	e.createMany(ns, count)
	e.waitStoredCount(count, `uploaded="true"`)
	first := proxy.Count()
	t.Logf("stored %d resources with %d requests: %v", count, first.Total(), first)

	e.check(e.controller.Stop(t.Context()))
	e.check(e.controller.Start(t.Context()))
	e.waitStoredCount(count, `uploaded="false"`)
	second := proxy.Count().Since(first)
	if uploads := second.By(http.MethodPut) + second.By(http.MethodPost) + second.By(http.MethodPatch); uploads != 0 {
		t.Errorf("%d uploads, want none: %v", uploads, second)
	}
	const contact = 2 // one request by HTTPS and one by HTTP find out the scheme
	if second.Total() > count+contact {
		t.Errorf("%d requests for %d resources: %v", second.Total(), count, second)
	}
}

// waitStoredCount waits until the controller's metrics count so many stored resources.
func (e *env) waitStoredCount(count int, label string) {
	e.t.Helper()
	e.eventually(harness.TimeLimit(2*time.Minute), func() error {
		stored, err := e.sumMetric("trustedresources_stored_total", label)
		if err == nil && stored != count {
			err = fmt.Errorf("%d of %d resources are stored with %s", stored, count, label)
		}
		return err
	})
}

// Signing works for a bundle that another tool has pushed. The bundle itself does not
// change.
func TestSign_SignsForeignBundleUnchanged(t *testing.T) {
	e := newEnv(t)
	registry := e.startRegistry()
	signer, err := harness.NewSigner()
	e.check(err)
	public, err := signer.PublicKey()
	e.check(err)
	objects := make([]resource.Object, 0, bundle.MaximumBundleObjects)
	for i := range bundle.MaximumBundleObjects {
		obj := newTask("theirs", fmt.Sprintf("task-%d", i))
		if i > 0 {
			e.check(signer.Sign(t.Context(), obj))
		}
		objects = append(objects, obj)
	}
	reference, err := registry.PushBundle(t.Context(), objects...)
	e.check(err)
	key, ours := e.newKey()
	client := newReader(registry.Host()).Registry
	signed, err := oci.Sign(t.Context(), client, reference, key, imagesignature.Options{})
	e.check(err)
	e.public = ours
	e.expectCosignAccepts(signed)

	found, err := oci.Inspect(t.Context(), client, reference, e.keyRing(ours, public))
	e.check(err)
	if !slices.Equal(found.Signers, []string{key.ID}) || len(found.Resources) != len(objects) {
		t.Errorf("found signers %v and %d resources, want our key and all resources", found.Signers, len(found.Resources))
	}
	for i, r := range found.Resources {
		if (r.Signer != "") != (i > 0) {
			t.Errorf("%s has the signer %q, want one for all but the first", r.Object.GetName(), r.Signer)
		}
	}
}
