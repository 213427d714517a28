// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Whoever pinned the digest of a bundle can verify it with the old and with the new key, but
// not with one that took over from a revoked key.
func TestKeyRing_SignsEarlierBundlesToo(t *testing.T) {
	for name, start := range registries {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			store := e.configureStore(start(e), "tekton,oci")
			first, second, third := e.newRingKey("first"), e.newRingKey("second"), e.newRingKey("third")
			e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
			e.controller = e.addReplica("controller")
			created := e.createTask(newTask(e.namespace(), "build"))
			e.public = first.public
			old := e.waitStored(store, created)

			e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
			e.public = second.public
			rotated := e.waitStored(store, created)
			e.waitSigners(store, old.Reference, first.public, second.public)
			for _, key := range []ringKey{first, second} {
				e.public = key.public
				e.expectCosignAccepts(old.Reference)
			}
			e.expectCosignAccepts(rotated.Reference)
			e.public = first.public
			e.expectImageRejected(rotated.Reference)

			e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) {
				s.Keys[1].Revoked = &v1alpha1.Revocation{Reason: v1alpha1.RevokedKeyCompromise}
				s.Keys = append(s.Keys, third.spec())
			})
			e.public = third.public
			e.expectCosignAccepts(e.waitStored(store, created).Reference)
			e.eventually(soon, func() error {
				log, err := e.controller.Log()
				if err == nil && !strings.Contains(log, "Earlier bundle not signed") {
					err = fmt.Errorf("the log does not say that the bundle %s of the revoked key is not signed", rotated.Reference)
				}
				return err
			})
			e.expectImageRejected(rotated.Reference)
			e.public = second.public
			e.expectCosignAccepts(rotated.Reference) // its own signature stays
		})
	}
}

// waitSigners waits until an image has signatures of these keys, each once.
func (e *env) waitSigners(store *oci.Store, reference string, want ...crypto.PublicKey) {
	e.t.Helper()
	e.eventually(soon, func() error {
		found, err := oci.Inspect(e.t.Context(), store.Registry, reference, e.keyRing(want...))
		if err == nil && (len(found.Signers) != len(want) || len(found.Unverified) != 0) {
			err = fmt.Errorf("%s is signed by %v, want %d keys; not counted: %v", reference, found.Signers, len(want), found.Unverified)
		}
		return err
	})
}

// A key is not retired while the newest bundle of a resource has a signature of the key, or
// while nobody knows.
func TestKeyRing_KeepsAKeyThatBundlesNeed(t *testing.T) {
	e := newEnv(t)
	proxy, err := harness.StartProxy(t.Context(), e.startRegistry().Host())
	e.check(err)
	e.cleanup(proxy.Stop)
	store := e.configureStore(proxy.Host(), "tekton,oci")
	first, second := e.newRingKey("first"), e.newRingKey("second")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{
		Keys:     []v1alpha1.RingKey{first.spec()},
		Rotation: v1alpha1.RotationSpec{QuietPeriod: &metav1.Duration{}},
	})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	created := e.createTask(newTask(ns, "build"))
	e.public = first.public
	old := e.waitStored(store, created)

	proxy.Set(func(r *http.Request) harness.Fault {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return nil
		}
		return harness.Answer(http.StatusTooManyRequests, http.Header{"Retry-After": {"2"}})
	})
	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
	e.public = second.public
	e.waitSigned(ns, "build")
	e.waitKeyRing(v1alpha1.DefaultKeyRing, harness.TimeLimit(3*time.Minute),
		isBlocked(keyring.Drain, `1 bundles have a signature of key "first"`, "/"+ns+":task.build"))

	proxy.Set(func(*http.Request) harness.Fault { return harness.CutOff() })
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isBlocked(keyring.Drain, "not known which bundles", proxy.Host()))
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, hasState("first", v1alpha1.KeyRetiring))

	proxy.Set(nil)
	e.waitStored(store, created)
	e.waitKeyRing(v1alpha1.DefaultKeyRing, harness.TimeLimit(2*time.Minute), hasState("first", v1alpha1.KeyRetired))
	e.waitSigners(store, old.Reference, first.public, second.public)
}
