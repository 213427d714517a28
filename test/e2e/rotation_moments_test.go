// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"encoding/json"
	"strings"
	"sync"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// moment is a write that shows a step of a rotation.
type moment string

const (
	atPublished moment = "published" // in the ConfigMap
	atInjected  moment = "injected"  // into a policy
	atPending   moment = "pending"
	atCanary    moment = "canary"
	atActive    moment = "active"
	atSigning   moment = "signing" // a resource again
	atRetired   moment = "retired"
	atUntrusted moment = "untrusted"
)

// queue returns the work queue of the controller that takes the step.
func (m moment) queue() string {
	if m == atSigning {
		return tasksQueue
	}
	return rotationQueue
}

var moments = []moment{atPublished, atInjected, atPending, atCanary, atActive, atSigning, atRetired, atUntrusted}

// rotations watches the rotations of all rings.
type rotations struct {
	e *env
	// at is called with each new step.
	at func(moment)

	mu       sync.Mutex
	seen     map[string]bool
	statuses []ringWrite
	signed   []taskWrite
}

// followRotations watches until the test ends.
func (e *env) followRotations(at func(moment)) *rotations {
	e.t.Helper()
	r := &rotations{e: e, at: at, seen: map[string]bool{}}
	e.follow(keyRingsResource, harness.SystemNamespace, r.seeRing)
	e.follow(configMapsResource, harness.SystemNamespace, r.seeConfigMap)
	e.follow(policiesResource, "", r.seePolicy)
	e.follow(taskRunsResource, v1alpha1.CanaryNamespace, func(run *unstructured.Unstructured) {
		r.step(atCanary, run.GetName())
	})
	e.follow(tasksResource, "", r.seeTask)
	return r
}

// step calls at if the step was not seen before for the same thing.
func (r *rotations) step(step moment, what ...string) {
	key := string(step) + " " + strings.Join(what, " ")
	r.mu.Lock()
	seen := r.seen[key]
	r.seen[key] = true
	r.mu.Unlock()
	if !seen {
		r.at(step)
	}
}

func (r *rotations) seeRing(object *unstructured.Unstructured) {
	ring := decode[v1alpha1.KeyRing](r.e, object)
	r.mu.Lock()
	r.statuses = append(r.statuses, ringWrite{orderOf(object), ring})
	r.mu.Unlock()
	for _, key := range ring.Status.Keys {
		switch {
		case key.UntrustedSince != nil:
			r.step(atUntrusted, ring.Name, key.Name)
		case key.State == v1alpha1.KeyRetired:
			r.step(atRetired, ring.Name, key.Name)
		case key.State == v1alpha1.KeyActive:
			r.step(atActive, ring.Name, key.Name)
		case key.State == v1alpha1.KeyPending:
			r.step(atPending, ring.Name, key.Name)
		}
	}
}

func (r *rotations) seeConfigMap(object *unstructured.Unstructured) {
	if object.GetName() != v1alpha1.TrustedKeysConfigMap {
		return
	}
	found := decode[corev1.ConfigMap](r.e, object)
	var entries []v1alpha1.PublishedKey
	if err := json.Unmarshal([]byte(found.Data[v1alpha1.TrustedKeysIndex]), &entries); err != nil {
		r.e.t.Error(err)
	}
	for _, entry := range entries {
		r.step(atPublished, entry.Ring, entry.Name)
	}
}

func (r *rotations) seePolicy(object *unstructured.Unstructured) {
	policy := decode[tekton.VerificationPolicy](r.e, object)
	for _, authority := range policy.Spec.Authorities {
		if strings.HasPrefix(authority.Name, "keyring-") {
			r.step(atInjected, policy.Namespace, policy.Name, authority.Name)
		}
	}
}

// seeTask records each new signature, also those of other Tasks than the first of a ring:
// each is a step of signing again.
func (r *rotations) seeTask(object *unstructured.Unstructured) {
	task := decode[v1.Task](r.e, object)
	if task.Namespace == v1alpha1.CanaryNamespace || signature(&task) == "" {
		return
	}
	key := task.Namespace + "/" + task.Name + " " + signature(&task)
	r.mu.Lock()
	known := r.seen[key]
	r.seen[key] = true
	if !known {
		r.signed = append(r.signed, taskWrite{version: orderOf(object), task: &task})
	}
	r.mu.Unlock()
	if !known {
		r.at(atSigning)
	}
}
