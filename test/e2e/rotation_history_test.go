// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"crypto"
	"fmt"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// ringWrite is one state of a KeyRing.
type ringWrite struct {
	version uint64
	ring    v1alpha1.KeyRing
}

// taskWrite is a write that gave a Task another signature.
type taskWrite struct {
	version uint64
	task    *v1.Task
}

// checkRings returns what is wrong with the states of KeyRings: two active keys, or a key
// that went back to an earlier state.
func checkRings(writes []ringWrite) (problems []string) {
	order := []v1alpha1.KeyState{"", v1alpha1.KeyPending, v1alpha1.KeyActive, v1alpha1.KeyRetiring, v1alpha1.KeyRetired, v1alpha1.KeyRevoked}
	last := map[string]v1alpha1.KeyState{} // by ring and key
	for _, write := range writes {
		var active []string
		for _, key := range write.ring.Status.Keys {
			name := write.ring.Name + "/" + key.Name
			if slices.Index(order, key.State) < slices.Index(order, last[name]) {
				problems = append(problems, fmt.Sprintf("key %s went from %s to %s at version %d", name, last[name], key.State, write.version))
			}
			last[name] = key.State
			if key.State == v1alpha1.KeyActive {
				active = append(active, key.Name)
			}
		}
		if len(active) > 1 || write.ring.Status.Active != "" && !slices.Equal(active, []string{write.ring.Status.Active}) {
			problems = append(problems, fmt.Sprintf("KeyRing %s has the active keys %q and active %q at version %d",
				write.ring.Name, active, write.ring.Status.Active, write.version))
		}
	}
	return problems
}

// writes returns what was seen so far, and of the signatures those after a version.
func (r *rotations) writes(after uint64) ([]ringWrite, []taskWrite) {
	r.mu.Lock()
	defer r.mu.Unlock()
	earlier := func(write taskWrite) bool { return write.version <= after }
	return slices.Clone(r.statuses), slices.DeleteFunc(slices.Clone(r.signed), earlier)
}

// checkSignatures returns the signatures that no key made which was active, or had been
// before and was not retired, when the signature was written. A replica may use the key
// that was active before for some seconds.
func (e *env) checkSignatures(statuses []ringWrite, signed []taskWrite, ringOf map[string]string, keys map[string]crypto.PublicKey) (problems []string) {
	e.t.Helper()
	for _, write := range signed {
		ring := ringOf[write.task.Namespace]
		if ring == "" {
			continue // of another test
		}
		status := statusBefore(statuses, ring, write.version)
		mayHaveSigned := func(key v1alpha1.RingKeyStatus) bool {
			return (key.State == v1alpha1.KeyActive || key.State == v1alpha1.KeyRetiring) &&
				harness.Verify(e.t.Context(), write.task, keys[key.Name]) == nil
		}
		if !slices.ContainsFunc(status.Keys, mayHaveSigned) {
			problems = append(problems, fmt.Sprintf("Task %s/%s got a signature at version %d of no key that may sign then: %+v",
				write.task.Namespace, write.task.Name, write.version, status.Keys))
		}
	}
	return problems
}

// statusBefore returns the status of a ring before a write of another object.
func statusBefore(writes []ringWrite, ring string, version uint64) (status v1alpha1.KeyRingStatus) {
	for _, write := range writes {
		if write.ring.Name == ring && write.version < version {
			status = write.ring.Status
		}
	}
	return status
}

// isUntrusted reports that a key was retired, and that Tekton has seen that no policy with
// injected keys trusts it.
func isUntrusted(key string) func(*v1alpha1.KeyRingStatus) error {
	return func(status *v1alpha1.KeyRingStatus) error {
		found := keyring.StatusOf(status, key)
		if found == nil || found.State != v1alpha1.KeyRetired || found.UntrustedSince == nil {
			return fmt.Errorf("key %q is not retired and untrusted", key)
		}
		return nil
	}
}
