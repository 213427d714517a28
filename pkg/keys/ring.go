// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sigstore/sigstore/pkg/signature"
)

// ErrNoKey means that the ring has no usable key for a signer type. The error
// also says why the key is not usable.
var ErrNoKey = errors.New("no usable key")

// Ring is one consistent state of the keys. It is immutable. A key is in one of
// active, retired and revoked.
type Ring struct {
	active  map[string]*Key // by signer type
	retired []*Key
	revoked []*Key
	// replaceable are the IDs of revoked keys whose signatures may be replaced.
	replaceable []string
	problems    map[string]error // by signer type, also for signers whose last good key is active

	fileSigner signature.SignerVerifier // nil if there is none
	fileErr    error                    // why there is no fileSigner, or no newer one
	revokedErr error                    // why it is not known which keys are revoked
}

// NewVerifyingRing returns a ring that verifies with the given keys and signs
// with none.
func NewVerifyingRing(keys ...crypto.PublicKey) (*Ring, error) {
	r := &Ring{}
	for _, public := range keys {
		key, err := newKey(public)
		if err != nil {
			return nil, err
		}
		r.retired = append(r.retired, key)
	}
	r.retired = without(r.retired, nil)
	return r, nil
}

// Active returns the key that signs for a signer type ("x509", "kms"). The error
// wraps ErrNoKey and says why there is no key.
func (r *Ring) Active(signerType string) (*Key, error) {
	if key, ok := r.active[signerType]; ok {
		return key, nil
	}
	return nil, noKey(signerType, r.problems[signerType])
}

// Problem returns why the newest key of a signer type cannot be used, or nil. It is nil
// where no key is set and none is needed.
func (r *Ring) Problem(signerType string) error { return r.problems[signerType] }

// FileSigner returns the signer with the private key in the signing secret. It
// signs runs, so its key can be of a type that Tekton cannot verify. The error
// wraps ErrNoKey and says why there is no signer.
func (r *Ring) FileSigner(signerType string) (signature.SignerVerifier, error) {
	if r.fileSigner == nil {
		return nil, noKey(signerType, r.fileErr)
	}
	return r.fileSigner, nil
}

func noKey(signerType string, problem error) error {
	if problem == nil {
		return fmt.Errorf("%w for signer %q", ErrNoKey, signerType)
	}
	return fmt.Errorf("%w for signer %q: %w", ErrNoKey, signerType, problem)
}

// Keys returns all keys of the ring that are not revoked, the active keys first.
func (r *Ring) Keys() []*Key {
	keys := make([]*Key, 0, len(r.active)+len(r.retired))
	for _, signerType := range slices.Sorted(maps.Keys(r.active)) {
		keys = append(keys, r.active[signerType])
	}
	return append(keys, r.retired...)
}

// Find returns the key, active or retired, that verifies sig over message. It
// returns nil when no key of the ring does.
func (r *Ring) Find(sig, message []byte) *Key { return find(r.Keys(), sig, message) }

// FindRevoked returns the revoked key that verifies sig over message. It returns
// nil when no revoked key does.
func (r *Ring) FindRevoked(sig, message []byte) *Key { return find(r.revoked, sig, message) }

func find(keys []*Key, sig, message []byte) *Key {
	for _, key := range keys {
		if key.Verify(sig, message) {
			return key
		}
	}
	return nil
}

// Revoked reports whether the key with this ID is revoked.
func (r *Ring) Revoked(keyID string) bool { return hasID(r.revoked, keyID) }

// mayUse returns why a key must not sign, or nil. Without knowing which keys are
// revoked, no key signs.
func (r *Ring) mayUse(keyID string) error {
	switch {
	case r.revokedErr != nil:
		return fmt.Errorf("nothing is signed, because it is not known which keys are revoked: %w", r.revokedErr)
	case r.Revoked(keyID):
		return fmt.Errorf("key %s is revoked: a file %s of the signing secret has its public key; replace the private key",
			keyID, revokedPattern)
	}
	return nil
}

// Standing says what a key of a ring does: Active, Retired or Revoked.
type Standing string

// The standings.
const (
	Active  Standing = "active"
	Retired Standing = "retired"
	Revoked Standing = "revoked"
)

// Visit calls visit with the ID of each key. The signer type is empty for a key that signs
// nothing.
func (r *Ring) Visit(visit func(id, signerType string, standing Standing)) {
	active, retired, revoked := r.ids()
	for signerType, id := range active {
		visit(id, signerType, Active)
	}
	for _, id := range retired {
		visit(id, "", Retired)
	}
	for _, id := range revoked {
		visit(id, "", Revoked)
	}
}

// ids returns the IDs of the active keys by signer type, of the retired keys and of
// the revoked keys.
func (r *Ring) ids() (active map[string]string, retired, revoked []string) {
	active = map[string]string{}
	for signerType, key := range r.active {
		active[signerType] = key.ID
	}
	return active, idsOf(r.retired), idsOf(r.revoked)
}

func idsOf(keys []*Key) []string {
	ids := make([]string, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return ids
}

func hasID(keys []*Key, id string) bool {
	return slices.ContainsFunc(keys, func(key *Key) bool { return key.ID == id })
}

// without returns the keys that are not in others, each once.
func without(keys, others []*Key) []*Key {
	var left []*Key
	for _, key := range keys {
		if !hasID(left, key.ID) && !hasID(others, key.ID) {
			left = append(left, key)
		}
	}
	return left
}

func sameKeys(a, b *Ring) bool {
	aActive, aRetired, aRevoked := a.ids()
	bActive, bRetired, bRevoked := b.ids()
	return maps.Equal(aActive, bActive) && slices.Equal(aRetired, bRetired) && slices.Equal(aRevoked, bRevoked)
}
