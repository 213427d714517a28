// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// patched notes when each policy lost its injected authority of a key.
type patched struct {
	mu    sync.Mutex
	times map[string]time.Time // by namespace and name
}

func (p *patched) see(e *env, authority string) func(*unstructured.Unstructured) {
	return func(object *unstructured.Unstructured) {
		policy := decode[tekton.VerificationPolicy](e, object)
		if policy.Annotations[v1alpha1.InjectKeysAnnotation] != "true" {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		name := policy.Namespace + "/" + policy.Name
		if _, known := p.times[name]; !known && !strings.Contains(fmt.Sprint(policy.Spec.Authorities), authority) {
			p.times[name] = time.Now()
		}
	}
}

func (p *patched) last() (count int, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.times {
		if at.After(last) {
			last = at
		}
	}
	return len(p.times), last
}

// After a theft, 200 policies in 40 namespaces lose the key, and Tekton refuses what the key
// has signed.
func TestRotation_RevocationIsFast(t *testing.T) {
	const namespaces, perNamespace, total = 40, 5, 200
	resources := 5000
	if testing.Short() {
		resources = 400
	}
	e := newEnv(t)
	e.injectKeys()
	stolen, next := e.newRingKey("stolen"), e.newRingKey("next")
	standby := next.spec()
	standby.Standby = true
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{stolen.spec(), standby}})
	e.controller = e.addReplica("controller")
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("stolen"))
	e.public = stolen.public
	all := make([]string, 0, namespaces)
	own := e.newRingKey("own")
	for range namespaces {
		ns := e.namespace()
		all = append(all, ns)
		e.createMany(ns, resources/namespaces)
		for range perNamespace {
			e.injected(e.enforcePolicy(ns, own.authority(e)))
		}
	}
	for _, ns := range all {
		e.waitAllSigned(ns, resources/namespaces)
	}
	e.waitPoliciesTrust(total, stolen, next)
	ring, err := e.keyRings().Get(t.Context(), v1alpha1.DefaultKeyRing, metav1.GetOptions{})
	e.check(err)
	lost := &patched{times: map[string]time.Time{}}
	id := strings.TrimPrefix(keyring.StatusOf(&ring.Status, "stolen").KeyID, "sha256:")[:12]
	e.follow(policiesResource, "", lost.see(e, id))

	// The next key stays a standby, so nothing is signed with it before the refusals are seen.
	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) {
		s.Keys[0].Revoked = &v1alpha1.Revocation{Reason: v1alpha1.RevokedKeyCompromise}
	})
	revoked := time.Now()
	e.eventually(soon, func() error { // the first run that Tekton refuses
		run, err := cluster.RunTask(t.Context(), all[0], "task-0", nil, soon)
		if err == nil && run.IsSuccessful() {
			err = fmt.Errorf("run %s still passes", run.Name)
		}
		return err
	})
	refused := time.Since(revoked)
	e.eventually(soon, func() error {
		if count, _ := lost.last(); count < total {
			return fmt.Errorf("%d of %d policies have lost the key", count, total)
		}
		return nil
	})
	_, last := lost.last()
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, func(status *v1alpha1.KeyRingStatus) error {
		if keyring.StatusOf(status, "stolen").UntrustedSince == nil {
			return fmt.Errorf("key %q may still be trusted", "stolen")
		}
		return nil
	})
	t.Logf("200 policies in 40 namespaces: last patched %.1f s after the revocation, first run refused after %.1f s, untrusted after %.1f s",
		last.Sub(revoked).Seconds(), refused.Seconds(), time.Since(revoked).Seconds())
	for _, ns := range all {
		for range perNamespace {
			e.runExpectingRefusal(ns, "task-1")
		}
	}
	activated := time.Now()
	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys[1].Standby = false })
	e.public = next.public
	for _, ns := range all {
		e.eventually(harness.TimeLimit(2*time.Minute), func() error { return e.checkAllSigned(ns, resources/namespaces) })
	}
	t.Logf("%d resources signed again %.1f s after the next key became the target", resources, time.Since(activated).Seconds())
	if limit := 5 * time.Second; last.Sub(revoked) > limit || refused > limit {
		t.Errorf("got %s to the last policy and %s to the first refusal, want at most %s", last.Sub(revoked), refused, limit)
	}
}

// waitPoliciesTrust waits until so many policies have injected authorities of these keys.
func (e *env) waitPoliciesTrust(count int, trusted ...ringKey) {
	e.t.Helper()
	e.eventually(harness.TimeLimit(time.Minute), func() error {
		list, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(metav1.NamespaceAll).List(e.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, policy := range list.Items {
			if policy.Annotations[v1alpha1.InjectKeysAnnotation] == "true" && len(policy.Spec.Authorities) == 1+len(trusted) {
				ready++
			}
		}
		if ready != count {
			return fmt.Errorf("%d policies have all keys, want %d", ready, count)
		}
		return nil
	})
}
