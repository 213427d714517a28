// SPDX-License-Identifier: Apache-2.0

package keyring

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// ErrNoSuchKey means that a ring has no key with a name. The error lists the names.
var ErrNoSuchKey = errors.New("no such key")

// Append appends a key to a ring. If the ring has the key already, nothing changes.
func Append(ring *v1alpha1.KeyRing, key v1alpha1.RingKey) error {
	switch found := SpecOf(ring, key.Name); {
	case found != nil && samePrivateHalf(*found, key):
		return nil
	case found != nil, StatusOf(&ring.Status, key.Name) != nil:
		return fmt.Errorf("KeyRing %s has or had another key %q, and a name is not used again; choose another name", ring.Name, key.Name)
	}
	ring.Spec.Keys = append(ring.Spec.Keys, key)
	return nil
}

func samePrivateHalf(a, b v1alpha1.RingKey) bool {
	switch {
	case a.X509 != nil && b.X509 != nil:
		return *a.X509 == *b.X509
	case a.KMS != nil && b.KMS != nil:
		return *a.KMS == *b.KMS
	}
	return false
}

// Aim makes a key the target of a rotation: it is no standby any more, and all later keys
// with a private half are.
func Aim(ring *v1alpha1.KeyRing, name string) error {
	i, err := indexOf(ring, name)
	if err != nil {
		return err
	}
	if why := unfit(ring, ring.Spec.Keys[i]); why != "" {
		return fmt.Errorf("key %q of KeyRing %s cannot be the target: %s", name, ring.Name, why)
	}
	ring.Spec.Keys[i].Standby = false
	for j := i + 1; j < len(ring.Spec.Keys); j++ {
		if later := &ring.Spec.Keys[j]; hasPrivateHalf(*later) && later.Revoked == nil {
			later.Standby = true
		}
	}
	return nil
}

// unfit returns why a key cannot be the target of a rotation. It is empty if the key can.
func unfit(ring *v1alpha1.KeyRing, key v1alpha1.RingKey) string {
	status := StatusOf(&ring.Status, key.Name)
	switch {
	case key.Revoked != nil || wasRevoked(ring, key.Name):
		return "it is revoked"
	case !hasPrivateHalf(key):
		return "it has no private half (x509 or kms)"
	case status != nil && status.State == v1alpha1.KeyRetired:
		return "it is retired, and policies trust it no more; generate another key"
	}
	return ""
}

// Previous returns the key to which a rollback goes: the active key while the rotation has
// not reached the target, and then the key that was active last. Once a rollback has
// begun, Previous returns its target.
func Previous(ring *v1alpha1.KeyRing) (string, error) {
	active, target := specIndex(ring, ring.Status.Active), specIndex(ring, Target(ring))
	switch {
	case active < 0:
		return "", fmt.Errorf("KeyRing %s has no active key, so there is nothing to go back from", ring.Name)
	case target < 0 || target > active:
		return ring.Status.Active, nil
	case target < active || hasState(ring, ring.Spec.Keys[active+1:], v1alpha1.KeyRetiring):
		return ring.Spec.Keys[target].Name, nil
	}
	var previous string
	var until time.Time
	for _, key := range ring.Spec.Keys[:active] {
		status := StatusOf(&ring.Status, key.Name)
		if status == nil || status.State != v1alpha1.KeyRetiring || unfit(ring, key) != "" {
			continue
		}
		if ended := endOf(status); previous == "" || !ended.Before(until) {
			previous, until = key.Name, ended
		}
	}
	if previous == "" && !hasState(ring, ring.Spec.Keys[:active], v1alpha1.KeyRetired) && hasState(ring, ring.Spec.Keys[active+1:], v1alpha1.KeyPending) {
		return ring.Status.Active, nil // the rotation that an earlier rollback stopped had not reached its target
	}
	if previous == "" {
		return "", fmt.Errorf("KeyRing %s has no retiring key older than the active key %q, so there is nothing to go back to%s",
			ring.Name, ring.Status.Active, retired(ring))
	}
	return previous, nil
}

func endOf(status *v1alpha1.RingKeyStatus) time.Time {
	if status.ActiveUntil == nil {
		return time.Time{}
	}
	return status.ActiveUntil.Time
}

func hasState(ring *v1alpha1.KeyRing, keys []v1alpha1.RingKey, state v1alpha1.KeyState) bool {
	return slices.ContainsFunc(keys, func(key v1alpha1.RingKey) bool {
		status := StatusOf(&ring.Status, key.Name)
		return status != nil && status.State == state
	})
}

// retired says which keys are retired, for an error.
func retired(ring *v1alpha1.KeyRing) string {
	names := make([]string, 0, len(ring.Status.Keys))
	for _, status := range ring.Status.Keys {
		if status.State == v1alpha1.KeyRetired {
			names = append(names, status.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("; policies do not trust the retired keys any more (%s): generate another key, and rotate to it", strings.Join(names, ", "))
}

// Revoke revokes a key. change sets what is known about the revocation. If the key signs or
// is to sign, its Successor becomes the target. A key that is only in the status gets an
// entry in the spec.
func Revoke(ring *v1alpha1.KeyRing, name string, change func(*v1alpha1.Revocation)) error {
	if status := StatusOf(&ring.Status, name); specIndex(ring, name) < 0 && status != nil {
		ring.Spec.Keys = append(ring.Spec.Keys, v1alpha1.RingKey{Name: name, PublicKey: status.PublicKey})
	}
	i, err := indexOf(ring, name)
	if err != nil {
		return err
	}
	if successor := Successor(ring, name); successor != "" && IsInUse(ring, name) {
		if err := Aim(ring, successor); err != nil {
			return err
		}
	}
	key := &ring.Spec.Keys[i]
	if key.Revoked == nil {
		key.Revoked = &v1alpha1.Revocation{}
	}
	change(key.Revoked)
	return nil
}

// IsInUse reports whether a key signs, or is the target.
func IsInUse(ring *v1alpha1.KeyRing, name string) bool {
	return name == ring.Status.Active || name == Target(ring)
}

// Successor returns the key that is to sign if a key is revoked: the target, or if that is
// revoked the newest other key that can sign, also if it is a standby. If no key is known
// to be able to, it is the newest that the controller has not looked at yet. It is empty
// if there is none.
func Successor(ring *v1alpha1.KeyRing, revoked string) string {
	var lost string // the ID of the revoked key
	if status := StatusOf(&ring.Status, revoked); status != nil {
		lost = status.KeyID
	}
	signs := func(name string) bool {
		key, status := SpecOf(ring, name), StatusOf(&ring.Status, name)
		return name != revoked && key != nil && unfit(ring, *key) == "" &&
			status != nil && status.KeyID != "" && status.KeyID != lost && status.Problem == ""
	}
	if target := Target(ring); signs(target) {
		return target
	}
	isNew := func(name string) bool {
		return name != revoked && unfit(ring, *SpecOf(ring, name)) == "" && StatusOf(&ring.Status, name) == nil
	}
	for _, may := range []func(string) bool{signs, isNew} {
		for _, key := range slices.Backward(ring.Spec.Keys) {
			if may(key.Name) {
				return key.Name
			}
		}
	}
	return ""
}

// Forget removes the private half of a retired or revoked key from a ring, and keeps the
// public half. It returns the Secret of the private half; empty if the ring names none.
func Forget(ring *v1alpha1.KeyRing, name string) (secret string, err error) {
	i, err := indexOf(ring, name)
	if err != nil {
		return "", err
	}
	key, status := &ring.Spec.Keys[i], StatusOf(&ring.Status, name)
	if !hasPrivateHalf(*key) {
		return "", nil
	}
	switch {
	case status == nil || status.State != v1alpha1.KeyRetired && status.State != v1alpha1.KeyRevoked:
		return "", fmt.Errorf("key %q of KeyRing %s is %s, expected retired or revoked: signatures in use need it", name, ring.Name, stateOf(status))
	case status.PublicKey == "":
		return "", fmt.Errorf("the public half of key %q of KeyRing %s is not known, so its signatures could not be recognized any more", name, ring.Name)
	case Target(ring) == name:
		return "", fmt.Errorf("key %q is the target of KeyRing %s; rotate to another key first", name, ring.Name)
	}
	if key.X509 != nil {
		secret = key.X509.Secret
	}
	key.X509, key.KMS, key.Standby, key.PublicKey = nil, nil, false, status.PublicKey
	return secret, nil
}

func stateOf(status *v1alpha1.RingKeyStatus) string {
	if status == nil {
		return "not yet seen by the controller"
	}
	return string(status.State)
}

func specIndex(ring *v1alpha1.KeyRing, name string) int {
	return slices.IndexFunc(ring.Spec.Keys, func(key v1alpha1.RingKey) bool { return key.Name == name })
}

func indexOf(ring *v1alpha1.KeyRing, name string) (int, error) {
	if i := specIndex(ring, name); i >= 0 {
		return i, nil
	}
	names := make([]string, 0, len(ring.Spec.Keys))
	for _, key := range ring.Spec.Keys {
		names = append(names, key.Name)
	}
	return -1, fmt.Errorf("%w: KeyRing %s has no key %q; its keys are %s", ErrNoSuchKey, ring.Name, name, strings.Join(names, ", "))
}
