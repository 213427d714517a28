package keys

import (
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrNoKey says that there is no usable key of the type asked for. What is
// wrong with it is in the same error.
var ErrNoKey = errors.New("no usable key")

// Ring is one consistent state of the keys. It is never changed after it was
// made.
type Ring struct {
	active   map[string]*Key
	retired  []*Key
	problems map[string]error // by signer type, also of signers whose last good key is active
}

// Active is the key that signs for a type of signer ("x509", "kms"). The error
// wraps ErrNoKey and says why there is none.
func (r *Ring) Active(signerType string) (*Key, error) {
	if key, ok := r.active[signerType]; ok {
		return key, nil
	}
	if problem := r.problems[signerType]; problem != nil {
		return nil, fmt.Errorf("%w for signer %q: %w", ErrNoKey, signerType, problem)
	}
	return nil, fmt.Errorf("%w for signer %q", ErrNoKey, signerType)
}

// Trusting is a ring that only verifies, with these keys.
func Trusting(keys ...crypto.PublicKey) (*Ring, error) {
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

// Keys are the keys of the ring, the active ones first.
func (r *Ring) Keys() []*Key {
	keys := make([]*Key, 0, len(r.active)+len(r.retired))
	for _, signerType := range slices.Sorted(maps.Keys(r.active)) {
		keys = append(keys, r.active[signerType])
	}
	return append(keys, r.retired...)
}

// Find is the key of the ring, active or retired, whose signature over message
// sig is; nil when there is none.
func (r *Ring) Find(sig, message []byte) *Key {
	for _, key := range r.Keys() {
		if key.Verify(sig, message) {
			return key
		}
	}
	return nil
}

// retire keeps what was active before and no longer is among the retired keys:
// it did sign. What is active is not retired, even when cosign.pub says so.
func (r *Ring) retire(before *Ring) {
	retired := slices.Clone(r.retired)
	for _, key := range before.active {
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

// ids are the IDs of the ring's keys by role, to compare and to log.
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

// merge adds the keys that are not there yet. Retired keys never sign again,
// so only their public half is kept.
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
