package keyring

import (
	"errors"
	"fmt"
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

// Find is the key of the ring, active or retired, whose signature over message
// sig is; nil when there is none.
func (r *Ring) Find(sig, message []byte) *Key {
	for _, key := range r.active {
		if key.Verify(sig, message) {
			return key
		}
	}
	for _, key := range r.retired {
		if key.Verify(sig, message) {
			return key
		}
	}
	return nil
}

func (r *Ring) isActive(key *Key) bool {
	for _, active := range r.active {
		if active.ID == key.ID {
			return true
		}
	}
	return false
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
