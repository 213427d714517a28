// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"crypto"
	"time"

	"github.com/jellydator/ttlcache/v3"
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

// Sources are what the keys of policies are read with.
type Sources struct {
	Secrets Secrets
	// Access returns what policies may refer to at this moment. Without Access,
	// they may refer to inline keys only.
	Access func() Access
	Clock  clock.PassiveClock
	// SecretUnusable, if not nil, is told why a Secret cannot be used, each time
	// that the Secret is read. Verdicts and errors do not say so of a Secret in
	// another namespace than the policy's: the author of the policy may not be
	// allowed to know whether the Secret exists.
	SecretUnusable func(ctx context.Context, namespace, name string, err error)
	// Judged, if not nil, is told how long a Verifier took for each verdict, and whether the
	// verdict was cached.
	Judged func(ctx context.Context, result Result, cached bool, took time.Duration)
	// KeyWanted, if not nil, is told of each time that a key in a Secret or a KMS is wanted,
	// and whether the key was cached.
	KeyWanted func(ctx context.Context, cached bool)
	// KMSRequested, if not nil, is told of each request to a KMS.
	KMSRequested keys.Observer
}

// Keys reads the public keys that policies refer to, and remembers them for
// MaxSecretAge or MaxKMSAge. It is safe for concurrent use.
type Keys struct {
	sources Sources
	clock   clock.PassiveClock
	limits  kmsLimits
	cache   *ttlcache.Cache[keyLocation, readKey]
}

// NewKeys returns Keys that have read no key yet, for callers that sign resources.
func NewKeys(sources Sources) *Keys {
	return newKeys(sources, newKMSLimits(signingPatience, sources))
}

func newKeys(sources Sources, limits kmsLimits) *Keys {
	return &Keys{
		sources: sources, clock: sources.Clock, limits: limits,
		cache: ttlcache.New(ttlcache.WithCapacity[keyLocation, readKey](maxKeysCached)),
	}
}

// Fresh returns Keys that have read no key yet. Use them for an answer that must
// not come from remembered keys. The calls to a KMS count together with the calls
// of k.
func (k *Keys) Fresh() *Keys { return newKeys(k.sources, k.limits) }

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
	abandoned   bool            // the caller did not wait for the KMS, so the next caller asks again

	err  error // why there is no key
	read time.Time
}

// lifetime returns how long the key may be used.
func (r readKey) lifetime() lifetime {
	fromKMS := r.client != nil || r.unavailable != nil
	switch {
	case r.abandoned:
		return lifetime{expires: r.read, oldestKMS: r.read}
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

// Cached returns the number of cached keys.
func (k *Keys) Cached() int { return k.cache.Len() }

func (k *Keys) wanted(ctx context.Context, cached bool) {
	if k.sources.KeyWanted != nil {
		k.sources.KeyWanted(ctx, cached)
	}
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
func (k *Keys) remember(location keyLocation, start time.Time, key readKey) readKey {
	key.setRead(start, k.clock)
	k.cache.Set(location, key, ttlcache.NoTTL)
	return key
}

func (r *readKey) setRead(start time.Time, clock clock.PassiveClock) {
	r.read = start
	if r.failed() {
		r.read = clock.Now() // the failure may have taken longer than MaxFailureAge
	}
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
