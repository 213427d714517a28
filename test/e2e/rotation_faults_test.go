// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// The status is lost 20 times, in the middle of a rotation and after it: each time, the key
// that was active becomes active again, and no other one in between.
func TestRotation_FindsTheActiveKeyAfterEachWipe(t *testing.T) {
	const wipes = 10
	e := newEnv(t)
	first, second := e.newRingKey("first"), e.newRingKey("second")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
	e.controller = e.addReplica("controller")
	ns := e.namespace()
	policy := e.enforcePolicy(ns, first.authority(e))
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("first"))
	var forbidden atomic.Pointer[string]
	e.follow(keyRingsResource, harness.SystemNamespace, func(object *unstructured.Unstructured) {
		ring := decode[v1alpha1.KeyRing](e, object)
		if name := forbidden.Load(); name != nil && ring.Status.Active == *name {
			t.Errorf("key %q became active at version %s", *name, ring.ResourceVersion)
		}
	})
	wipe := func(active, other string) {
		forbidden.Store(&other)
		for range wipes {
			e.wipeStatus()
			e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive(active))
		}
		forbidden.Store(nil)
	}
	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
	wipe("first", "second") // the policy does not trust the second

	policy.Spec.Authorities = append(policy.Spec.Authorities, second.authority(e))
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Update(t.Context(), policy, metav1.UpdateOptions{})
	e.check(err)
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("second"))
	wipe("second", "first")
}

// signedBy notes when a key made the latest signature of Tasks in a namespace.
type signedBy struct {
	mu    sync.Mutex
	times []time.Time
}

func (s *signedBy) see(e *env, namespace string, key ringKey) func(*unstructured.Unstructured) {
	return func(object *unstructured.Unstructured) {
		task := decode[v1.Task](e, object)
		if task.Namespace != namespace || signature(&task) == "" || harness.Verify(e.t.Context(), &task, key.public) != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.times = append(s.times, time.Now())
	}
}

func (s *signedBy) after(moment time.Time) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.times {
		if at.After(moment) {
			count++
		}
	}
	return count
}

// One of two replicas cannot read the KeyRings any more, and everything else works. The
// other replica rotates. The first signs with the old key until its last read is too old,
// and then nothing.
func TestRotation_AReplicaThatReadsNoRingsEndsToSign(t *testing.T) {
	e := newEnv(t)
	api, err := cluster.StartAPIProxy()
	e.check(err)
	e.cleanup(api.Stop)
	var frozen atomic.Bool
	api.Freeze(func(r *http.Request) bool {
		// The replica does not get to rotate, so that the other one does.
		electing := r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/leases/watcher."+rotationQueue)
		return electing || frozen.Load() && strings.HasSuffix(r.URL.Path, "/keyrings")
	})
	original, err := cluster.WriteKubeconfigOf(t.Context(), harness.SystemNamespace, harness.ServiceAccount)
	e.check(err)
	kubeconfig, err := api.Kubeconfig(original, t.TempDir())
	e.check(err)
	first, second := e.newRingKey("first"), e.newRingKey("second")
	e.createKeyRing(v1alpha1.DefaultKeyRing, v1alpha1.KeyRingSpec{Keys: []v1alpha1.RingKey{first.spec()}})
	e.controller = e.addReplica("behind", "--kubeconfig", kubeconfig)
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.addReplica("other")
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("first"))
	e.public = first.public
	e.waitSigned(ns, "before")
	if e.countSignatures(e.controller) == 0 {
		t.Fatal("the replica behind the proxy does not sign")
	}
	old := &signedBy{}
	e.follow(tasksResource, "", old.see(e, ns, first))

	frozen.Store(true)
	began := time.Now()
	e.changeKeyRing(v1alpha1.DefaultKeyRing, func(s *v1alpha1.KeyRingSpec) { s.Keys = append(s.Keys, second.spec()) })
	e.waitKeyRing(v1alpha1.DefaultKeyRing, soon, isActive("second"))
	activated := time.Now()
	count := 0
	var last metav1.Object
	for tick := time.NewTicker(time.Second / 2); time.Since(began) < rings.Fence+15*time.Second; <-tick.C {
		last = e.createTask(newTask(ns, fmt.Sprintf("task-%d", count)))
		count++
	}
	e.check(e.hasNoKey(last, "could not be read"))
	late, during := old.after(began.Add(rings.Fence+time.Second)), old.after(activated)
	t.Logf("%d Tasks; the old key signed %d after the activation of the next one, %d of these later than %s after the last read",
		count, during, late, rings.Fence)
	if late > 0 || during == 0 {
		t.Error("want some signatures before and none after")
	}

	frozen.Store(false)
	e.public = second.public
	for i := range count {
		e.waitSigned(ns, fmt.Sprintf("task-%d", i))
	}
}
