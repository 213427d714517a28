// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrNoKey means that the ring has no usable key for a signer type. The error
// also says why the key is not usable.
var ErrNoKey = errors.New("no usable key")

// Ring is one consistent state of the keys. It is immutable.
type Ring struct {
	active   map[string]*Key // by signer type
	retired  []*Key
	problems map[string]error // by signer type, also for signers whose last good key is active
}

// NewVerifyingRing returns a ring that verifies with the given keys and signs
// with none.
func NewVerifyingRing(keys ...crypto.PublicKey) (*Ring, error) {
	r := &Ring{}
	for _, public := range keys {
		key, err := newKey(public, nil)
		if err != nil {
			return nil, err
		}
		r.retired = merge(r.retired, key)
	}
	return r, nil
}

// Active returns the key that signs for a signer type ("x509", "kms"). The error
// wraps ErrNoKey and says why there is no key.
func (r *Ring) Active(signerType string) (*Key, error) {
	if key, ok := r.active[signerType]; ok {
		return key, nil
	}
	if problem := r.problems[signerType]; problem != nil {
		return nil, fmt.Errorf("%w for signer %q: %w", ErrNoKey, signerType, problem)
	}
	return nil, fmt.Errorf("%w for signer %q", ErrNoKey, signerType)
}

// Keys returns all keys of the ring, the active keys first.
func (r *Ring) Keys() []*Key {
	keys := make([]*Key, 0, len(r.active)+len(r.retired))
	for _, signerType := range slices.Sorted(maps.Keys(r.active)) {
		keys = append(keys, r.active[signerType])
	}
	return append(keys, r.retired...)
}

// Find returns the key, active or retired, that verifies sig over message. It
// returns nil when no key of the ring does.
func (r *Ring) Find(sig, message []byte) *Key {
	for _, key := range r.Keys() {
		if key.Verify(sig, message) {
			return key
		}
	}
	return nil
}

// retireKeysOf adds the active keys of the previous ring to the retired keys,
// because they signed resources. It then removes the active keys from the retired
// keys: cosign.pub of an active key is read as a retired key.
func (r *Ring) retireKeysOf(previous *Ring) {
	retired := slices.Clone(r.retired)
	for _, key := range previous.active {
		retired = merge(retired, key)
	}
	r.retired = slices.DeleteFunc(retired, func(key *Key) bool {
		for _, active := range r.active {
			if active.ID == key.ID {
				return true
			}
		}
		return false
	})
}

// ids returns the IDs of the active keys by signer type, and of the retired keys.
func (r *Ring) ids() (active map[string]string, retired []string) {
	active = map[string]string{}
	for signerType, key := range r.active {
		active[signerType] = key.ID
	}
	for _, key := range r.retired {
		retired = append(retired, key.ID)
	}
	return active, retired
}

// merge appends those keys that are not in the list yet, without their signers:
// a retired key never signs again.
func merge(keys []*Key, more ...*Key) []*Key {
	merged := slices.Clone(keys)
	for _, key := range more {
		if !slices.ContainsFunc(merged, func(known *Key) bool { return known.ID == key.ID }) {
			merged = append(merged, &Key{ID: key.ID, public: key.public, verifier: key.verifier})
		}
	}
	return merged
}

func sameKeys(a, b *Ring) bool {
	aActive, aRetired := a.ids()
	bActive, bRetired := b.ids()
	return maps.Equal(aActive, bActive) && slices.Equal(aRetired, bRetired)
}
