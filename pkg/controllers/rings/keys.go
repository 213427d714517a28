// SPDX-License-Identifier: Apache-2.0

package rings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// Keys loads keys of rings, and keeps them: a Secret is read once for each key.
type Keys struct {
	sources Sources
	clock   clock.PassiveClock

	mu     sync.Mutex
	loaded map[place]attempt
}

// Sources are what keys are loaded with.
type Sources struct {
	// Namespace has the Secrets.
	Namespace string
	// Secret returns the data of a Secret.
	Secret func(ctx context.Context, namespace, name string) (map[string][]byte, error)
	// KMS returns the key in a KMS.
	KMS func(ctx context.Context, ref, version string) (*keys.Key, error)
}

// place is where a key was loaded from.
type place struct {
	ring, key, secret, ref, version, publicKey string
}

// attempt is the last attempt to load a key.
type attempt struct {
	key   *keys.Key // nil if the public half is not known
	signs bool
	err   error
	again time.Time // zero: not before the spec changes
}

// retryInterval is the time until a key that could not be loaded is loaded again.
const retryInterval = 10 * time.Second

// NewKeys returns Keys that have loaded nothing.
func NewKeys(sources Sources, clock clock.PassiveClock) *Keys {
	return &Keys{sources: sources, clock: clock, loaded: map[place]attempt{}}
}

func placeOf(ring *v1alpha1.KeyRing, key v1alpha1.RingKey) place {
	p := place{ring: ring.Name, key: key.Name, publicKey: key.PublicKey}
	if key.X509 != nil {
		p.secret = key.X509.Secret
	}
	if key.KMS != nil {
		p.ref, p.version = key.KMS.Ref, key.KMS.Version
	}
	return p
}

// Load returns what is known of each key in the spec of a ring, by name.
func (k *Keys) Load(ctx context.Context, ring *v1alpha1.KeyRing) map[string]keyring.Loaded {
	all := map[string]keyring.Loaded{}
	for _, key := range ring.Spec.Keys {
		found := k.load(ctx, ring, key)
		loaded := keyring.Loaded{Signs: found.signs, Err: found.err}
		if found.key != nil {
			loaded.ID = found.key.ID
			var err error
			if loaded.PublicKey, err = found.key.PEM(); err != nil {
				loaded.Err = err
			}
		}
		all[key.Name] = loaded
	}
	return all
}

// Key returns a key of a ring that signs. The error says why there is none.
func (k *Keys) Key(ctx context.Context, ring *v1alpha1.KeyRing, name string) (*keys.Key, error) {
	spec := keyring.SpecOf(ring, name)
	if spec == nil {
		return nil, fmt.Errorf("KeyRing %s has no key %q", ring.Name, name)
	}
	found := k.load(ctx, ring, *spec)
	switch {
	case found.err != nil:
		return nil, found.err
	case !found.signs:
		return nil, fmt.Errorf("key %q of KeyRing %s has no private half", name, ring.Name)
	}
	return found.key, nil
}

func (k *Keys) load(ctx context.Context, ring *v1alpha1.KeyRing, spec v1alpha1.RingKey) attempt {
	p := placeOf(ring, spec)
	k.mu.Lock()
	last, found := k.loaded[p]
	k.mu.Unlock()
	if found && (last.again.IsZero() || k.clock.Now().Before(last.again)) {
		return last
	}
	next := k.try(ctx, p)
	if next.err != nil {
		next.again = k.clock.Now().Add(retryInterval)
		if found && next.key == nil && last.key != nil { // the last good half stays
			next.key, next.signs = last.key, last.signs
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loaded[p] = next
	return next
}

func (k *Keys) try(ctx context.Context, p place) attempt {
	var public *keys.Key
	if p.publicKey != "" {
		var err error
		if public, err = keys.FromPEM(p.publicKey); err != nil {
			return attempt{err: fmt.Errorf("publicKey: %w", err)}
		}
	}
	if p.secret == "" && p.ref == "" {
		return attempt{key: public}
	}
	private, err := k.private(ctx, p)
	switch {
	case err != nil:
		return attempt{key: public, err: err}
	case public != nil && public.ID != private.ID:
		return attempt{key: public, err: fmt.Errorf("publicKey is that of key %s, the private half is that of key %s; expected the same key", public.ID, private.ID)}
	}
	return attempt{key: private, signs: true}
}

func (k *Keys) private(ctx context.Context, p place) (*keys.Key, error) {
	if p.ref != "" {
		return k.sources.KMS(ctx, p.ref, p.version)
	}
	data, err := k.sources.Secret(ctx, k.sources.Namespace, p.secret)
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s/%s: %w", k.sources.Namespace, p.secret, err)
	}
	return keys.FromSecret(ctx, "Secret "+k.sources.Namespace+"/"+p.secret, data)
}

// keep forgets the keys that are in none of these rings.
func (k *Keys) keep(rings []v1alpha1.KeyRing) {
	wanted := map[place]bool{}
	for i := range rings {
		for _, key := range rings[i].Spec.Keys {
			wanted[placeOf(&rings[i], key)] = true
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.loaded, func(p place, _ attempt) bool { return !wanted[p] })
}

// ring returns the keys of a ring in the states that its status and spec give them, and the
// public keys of those that are to be trusted.
func (k *Keys) ring(ctx context.Context, object *v1alpha1.KeyRing) (ring *keys.Ring, trusted []string, states []v1alpha1.RingKeyStatus) {
	status := keyring.Observe(object, k.Load(ctx, object), k.clock.Now())
	var active *keys.Key
	problem := fmt.Errorf("KeyRing %s has no active key yet; its status says why", object.Name)
	var known, revoked []*keys.Key
	var replaceable []string
	for _, key := range status.Keys {
		if key.State == v1alpha1.KeyRevoked {
			revoked = appendKey(revoked, key, keys.FromRevokedPEM)
			if keyring.MayReplace(object, &key) {
				replaceable = append(replaceable, key.KeyID)
			}
			continue
		}
		if key.State == v1alpha1.KeyActive {
			active, problem = k.active(ctx, object, key)
		}
		if key.State != v1alpha1.KeyRetired && key.PublicKey != "" {
			trusted = append(trusted, key.PublicKey)
		}
		known = appendKey(known, key, keys.FromPEM)
	}
	return keys.NewRing(active, problem, known, revoked).Replacing(replaceable...), trusted, status.Keys
}

// active returns the active key of a ring, or why it cannot sign.
func (k *Keys) active(ctx context.Context, object *v1alpha1.KeyRing, status v1alpha1.RingKeyStatus) (*keys.Key, error) {
	key, err := k.Key(ctx, object, status.Name)
	if err == nil && key.ID != status.KeyID {
		return nil, errors.New(status.Problem)
	}
	return key, err
}

// appendKey appends the public half of a key. A key whose public half was never known
// has signed nothing.
func appendKey(all []*keys.Key, status v1alpha1.RingKeyStatus, parse func(string) (*keys.Key, error)) []*keys.Key {
	if key, err := parse(status.PublicKey); err == nil {
		return append(all, key)
	}
	return all
}
