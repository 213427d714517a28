// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"maps"
	"slices"

	"github.com/tektoncd/chains/pkg/chains/signing"
)

// NewRing returns a ring in which one key signs for all types of signer. active is nil if
// no key signs; problem then says why. known are keys that signed before, or may sign
// later.
func NewRing(active *Key, problem error, known, revoked []*Key) *Ring {
	r := &Ring{active: map[string]*Key{}, problems: map[string]error{}, revoked: without(revoked, nil)}
	for _, signerType := range []string{signing.TypeX509, signing.TypeKMS} {
		if active != nil {
			r.active[signerType] = active
		} else {
			r.problems[signerType] = problem
		}
	}
	r.retired = without(without(known, r.revoked), slices.Collect(maps.Values(r.active)))
	return r
}

// Replacing returns the ring, which lets signatures of revoked keys be replaced whose IDs
// are named.
func (r *Ring) Replacing(revoked ...string) *Ring {
	with := *r
	with.replaceable = revoked
	return &with
}

// MayReplace reports whether a signature of a revoked key may be replaced by one of the
// active key: nobody trusts the key any more, and its owner trusts what the key signed.
func (r *Ring) MayReplace(keyID string) bool { return slices.Contains(r.replaceable, keyID) }

// Merge returns a ring that knows the keys of several rings, and signs with none. A key
// that one of them has revoked is revoked.
func Merge(rings ...*Ring) *Ring {
	var known, revoked []*Key
	for _, ring := range rings {
		known = append(known, ring.Keys()...)
		revoked = append(revoked, ring.revoked...)
	}
	return NewRing(nil, nil, known, revoked)
}

// Knowing returns the ring, which also knows the keys of another one. No key signs that the
// other one has revoked.
func (r *Ring) Knowing(other *Ring) *Ring {
	active, err := r.Active(signing.TypeX509)
	if err == nil {
		if err = other.mayUse(active.ID); err != nil {
			active = nil
		}
	}
	return NewRing(active, err, slices.Concat(r.retired, other.Keys()), slices.Concat(r.revoked, other.revoked)).Replacing(r.replaceable...)
}

// Without returns the ring without active keys, because of problem.
func (r *Ring) Without(problem error) *Ring { return NewRing(nil, problem, r.Keys(), r.revoked) }

// Same reports whether two rings have the same keys in the same states, and the same
// problems.
func (r *Ring) Same(other *Ring) bool {
	return sameKeys(r, other) && slices.Equal(r.replaceable, other.replaceable) && maps.EqualFunc(r.problems, other.problems, func(a, b error) bool {
		return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
	})
}
