// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
)

// rotationSteps returns the steps of a rotation to a key. A step is done only if the status
// says so. The error means that the rotation to the key has ended in another way.
func rotationSteps(ring *v1alpha1.KeyRing, to string, untilActive bool) ([]step, error) {
	if target := keyring.Target(ring); target != to {
		return nil, fmt.Errorf("the target of KeyRing %s is %q now, expected %q: somebody has changed it", ring.Name, target, to)
	}
	r := rotation{ring: ring, status: &ring.Status, to: keyring.StatusOf(&ring.Status, to)}
	if !r.isObserved() || r.to == nil {
		return []step{notRead}, nil
	}
	if untilActive {
		return []step{r.loaded(), r.trusted(), r.seen(), r.active()}, nil
	}
	return []step{r.loaded(), r.trusted(), r.seen(), r.active(), r.signed(), r.drained(), r.untrusted(), r.end()}, nil
}

// notRead is the only step of a KeyRing whose status is older than its spec.
var notRead = step{name: "Read", text: "the controller has not read the change yet; is it running?"}

// rotation is what the steps of a rotation depend on.
type rotation struct {
	ring   *v1alpha1.KeyRing
	status *v1alpha1.KeyRingStatus
	to     *v1alpha1.RingKeyStatus
}

func (r rotation) isObserved() bool { return r.status.ObservedGeneration >= r.ring.Generation }

func (r rotation) isActive() bool { return r.status.Active == r.to.Name }

// message is what the controller says about the present step.
func (r rotation) message() string {
	rotated := meta.FindStatusCondition(r.status.Conditions, v1alpha1.KeyRingRotated)
	if rotated == nil || rotated.ObservedGeneration < r.ring.Generation {
		return "the controller has not decided yet"
	}
	if r.isPaused() {
		return "spec.rotation.paused stops the rotation"
	}
	return cmp.Or(rotated.Message, rotated.Reason)
}

func (r rotation) isPaused() bool {
	rotated := meta.FindStatusCondition(r.status.Conditions, v1alpha1.KeyRingRotated)
	return rotated != nil && rotated.Reason == string(keyring.Pause)
}

func (r rotation) loaded() step {
	if r.isActive() || r.to.KeyID != "" && r.to.Problem == "" {
		return step{name: "Loaded", done: true, text: fmt.Sprintf("%s %s%s", r.to.Name, shortID(r.to.KeyID), place(r.ring, r.to.Name))}
	}
	return step{name: "Loaded", text: cmp.Or(r.to.Problem, r.message())}
}

// shortID returns the beginning of a key ID, for people.
func shortID(id string) string {
	const length = len("sha256:") + 12
	if len(id) <= length {
		return id
	}
	return id[:length] + "…"
}

// place says where the private half of a key is.
func place(ring *v1alpha1.KeyRing, name string) string {
	switch key := keyring.SpecOf(ring, name); {
	case key == nil:
		return ""
	case key.X509 != nil:
		return " (Secret " + key.X509.Secret + ")"
	case key.KMS != nil && key.KMS.Version != "":
		return " (" + key.KMS.Ref + " version " + key.KMS.Version + ")"
	case key.KMS != nil:
		return " (" + key.KMS.Ref + ")"
	}
	return ""
}

func (r rotation) trusted() step { return r.gate("Trusted", v1alpha1.KeyRingTrusted) }

func (r rotation) seen() step { return r.gate("Seen", v1alpha1.KeyRingSeen) }

// gate returns the step for a condition without which a key does not become active, unless
// the key that signed before is revoked.
func (r rotation) gate(name, condition string) step {
	s := step{name: name, done: r.isActive(), text: r.message()}
	switch found := meta.FindStatusCondition(r.status.Conditions, condition); {
	case found == nil || found.ObservedGeneration < r.ring.Generation:
		if s.done {
			s.text = "not known: the controller has not decided yet"
		}
	case found.Status == metav1.ConditionTrue:
		s.done, s.text = true, found.Message
	case found.Status == metav1.ConditionUnknown && s.done:
		s.text = "not known: " + found.Message
	case !r.isPaused():
		s.text = found.Message
	}
	return s
}

func (r rotation) active() step {
	s := step{name: "Active", done: r.isActive(), text: r.message()}
	if s.done {
		s.text = r.to.Name
		if since := r.to.ActiveSince; since != nil {
			s.text += " since " + since.UTC().Format(time.RFC3339)
		}
	}
	return s
}

// signed counts the resources with signatures of older keys.
func (r rotation) signed() step {
	var others int64
	for _, key := range r.status.Keys {
		if key.Name != r.to.Name && key.State != v1alpha1.KeyRevoked {
			others += key.Signed
		}
	}
	return step{
		name: "Signed", done: r.isActive() && others == 0, count: r.to.Signed,
		text: fmt.Sprintf("%d/%d resources", r.to.Signed, r.to.Signed+others),
	}
}

func (r rotation) drained() step {
	retiring := namesIn(r.status, func(key v1alpha1.RingKeyStatus) bool { return key.State == v1alpha1.KeyRetiring })
	if r.isActive() && len(retiring) == 0 {
		return step{name: "Drained", done: true, text: "nothing needs an older key"}
	}
	return step{name: "Drained", text: r.message()}
}

func (r rotation) untrusted() step {
	trusted := namesIn(r.status, func(key v1alpha1.RingKeyStatus) bool {
		return key.State == v1alpha1.KeyRetired && key.KeyID != "" && key.UntrustedSince == nil
	})
	if r.isActive() && len(trusted) == 0 {
		return step{name: "Untrusted", done: true, text: "no policy with injected keys trusts an older key"}
	}
	return step{name: "Untrusted", text: r.message()}
}

// end is done when the controller says that the rotation is.
func (r rotation) end() step {
	rotated := meta.FindStatusCondition(r.status.Conditions, v1alpha1.KeyRingRotated)
	done := rotated != nil && rotated.Status == metav1.ConditionTrue && rotated.ObservedGeneration >= r.ring.Generation
	return step{name: "Done", done: done, text: r.message()}
}

// namesIn returns the names of the keys for which wanted is true.
func namesIn(status *v1alpha1.KeyRingStatus, wanted func(v1alpha1.RingKeyStatus) bool) (names []string) {
	for _, key := range status.Keys {
		if wanted(key) {
			names = append(names, key.Name)
		}
	}
	return names
}
