// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"crypto"
	"fmt"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/tektoncd/pipeline/pkg/trustedresources/verifier"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// How long a key is used before it is read again. MaxFailureAge is the time
// before a key that could not be read is tried again.
const (
	MaxSecretAge  = 10 * time.Second
	MaxKMSAge     = 5 * time.Minute
	MaxFailureAge = 5 * time.Second
)

const maxKeysCached = 1000

// Secrets reads Secrets.
type Secrets interface {
	// Secret returns the data of one Secret. Every error means that the Secret
	// cannot be read now.
	Secret(ctx context.Context, namespace, name string) (map[string][]byte, error)
}

// Keys reads the public keys that policies refer to, and remembers them for
// MaxSecretAge or MaxKMSAge. It is safe for concurrent use.
type Keys struct {
	secrets Secrets
	clock   clock.PassiveClock
	limits  kmsLimits
	cache   *ttlcache.Cache[keyLocation, readKey]
}

// NewKeys returns Keys that have read no key yet.
func NewKeys(secrets Secrets, clock clock.PassiveClock) *Keys {
	return newKeys(secrets, clock, newKMSLimits())
}

func newKeys(secrets Secrets, clock clock.PassiveClock, limits kmsLimits) *Keys {
	return &Keys{
		secrets: secrets, clock: clock, limits: limits,
		cache: ttlcache.New(ttlcache.WithCapacity[keyLocation, readKey](maxKeysCached)),
	}
}

// Fresh returns Keys that have read no key yet. Use them for an answer that must
// not come from remembered keys. The calls to a KMS count together with the calls
// of k.
func (k *Keys) Fresh() *Keys { return newKeys(k.secrets, k.clock, k.limits) }

// keyLocation is the place of a key: a Secret, or a KMS.
type keyLocation struct {
	namespace, secret string
	kms               string
	hash              crypto.Hash // for a KMS
}

// readKey is the result of reading a key.
type readKey struct {
	pem []byte // from a Secret

	client      *keys.KMSClient // from a KMS
	keyID       string          // of the client's public key
	unavailable error           // why the public key of the KMS cannot be read

	err  error // why there is no key
	read time.Time
}

// lifetime returns how long the key may be used.
func (r readKey) lifetime() lifetime {
	fromKMS := r.client != nil || r.unavailable != nil
	switch {
	case r.failed() && fromKMS:
		return lifetime{expires: r.read.Add(MaxFailureAge), oldestKMS: r.read}
	case r.failed():
		return lifetime{expires: r.read.Add(MaxFailureAge)}
	case fromKMS:
		return lifetime{expires: r.read.Add(MaxKMSAge), oldestKMS: r.read}
	default:
		return lifetime{expires: r.read.Add(MaxSecretAge)}
	}
}

func (r readKey) failed() bool { return r.err != nil || r.unavailable != nil }

// expired reports whether the time is over. Zero never is.
func (k *Keys) expired(expires time.Time) bool {
	return !expires.IsZero() && !k.clock.Now().Before(expires)
}

// cached returns the key that was read at this location and has not expired.
func (k *Keys) cached(location keyLocation) (readKey, bool) {
	item := k.cache.Get(location)
	if item == nil || k.expired(item.Value().lifetime().expires) {
		return readKey{}, false
	}
	return item.Value(), true
}

// remember caches a key whose reading began at start, and returns it.
func (k *Keys) remember(ctx context.Context, location keyLocation, start time.Time, key readKey) readKey {
	key.read = start
	if key.failed() {
		key.read = k.clock.Now() // the failure may have taken longer than MaxFailureAge
	}
	if ctx.Err() == nil { // an error after the end of the context says nothing about the key
		k.cache.Set(location, key, ttlcache.NoTTL)
	}
	return key
}

// forgetKMS makes Keys read again those keys of a KMS that were read at the given
// time or before.
func (k *Keys) forgetKMS(until time.Time) {
	for location, item := range k.cache.Items() {
		if location.kms != "" && !item.Value().read.After(until) {
			k.cache.Delete(location)
		}
	}
}

// secretKey returns the key in a Secret.
func (k *Keys) secretKey(ctx context.Context, location keyLocation) readKey {
	if key, found := k.cached(location); found {
		return key
	}
	start := k.clock.Now()
	return k.remember(ctx, location, start, k.readSecret(ctx, location))
}

// readSecret reads the only entry of a Secret. As in Tekton, more entries are an
// error.
func (k *Keys) readSecret(ctx context.Context, location keyLocation) readKey {
	data, err := k.secrets.Secret(ctx, location.namespace, location.secret)
	if err != nil {
		return readKey{err: fmt.Errorf("%w: Secret %s/%s: %w", errUnavailable, location.namespace, location.secret, err)}
	}
	if len(data) > 1 {
		return readKey{err: fmt.Errorf("Secret %s/%s: %w: found %d entries, expected one",
			location.namespace, location.secret, verifier.ErrMultipleSecretData, len(data))}
	}
	for _, pem := range data {
		if len(pem) > 0 {
			return readKey{pem: pem}
		}
	}
	return readKey{err: fmt.Errorf("Secret %s/%s: %w: expected one entry with a public key",
		location.namespace, location.secret, verifier.ErrEmptySecretData)}
}
