// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/sha256"
	"time"

	"github.com/jellydator/ttlcache/v3"
)

// MaxVerdicts is the maximum number of verdicts that a Verifier caches.
const MaxVerdicts = 20_000

// The other bounds of the verdict cache. A typical entry takes 950 bytes, and more
// when many policies match.
const (
	maxVerdictBytes = 16 << 20
	// maxKeyStrings bounds the bytes of signature and source in one verdictKey.
	maxKeyStrings = 4 << 10

	passedLife = 10 * time.Minute
	otherLife  = 30 * time.Second
)

// verdictKey holds all facts that a verdict depends on. When a fact changes, the
// cached verdict is not found any more, so no entry needs to be invalidated.
type verdictKey struct {
	keys      [sha256.Size]byte // of the matching policies and their keys
	checksum  [sha256.Size]byte
	signature string
	source    string
	noMatch   Mode
}

// newVerdictKey also reports whether the verdict may be cached.
func newVerdictKey(keys *matchKeys, in Input) (key verdictKey, cacheable bool) {
	key = verdictKey{keys: keys.digest, signature: in.Signature, source: in.Source, noMatch: in.NoMatch}
	n := copy(key.checksum[:], in.Checksum)
	return key, n == len(in.Checksum) && n == sha256.Size && len(in.Signature)+len(in.Source) <= maxKeyStrings
}

func newVerdictCache() *ttlcache.Cache[verdictKey, Verdict] {
	return ttlcache.New(
		ttlcache.WithCapacity[verdictKey, Verdict](MaxVerdicts),
		ttlcache.WithDisableTouchOnHit[verdictKey, Verdict](), // reading an entry does not extend its life
		ttlcache.WithMaxCost(maxVerdictBytes, func(item ttlcache.CostItem[verdictKey, Verdict]) uint64 {
			return sizeOf(item.Key, item.Value)
		}),
	)
}

// sizeOf estimates the bytes that an entry takes.
func sizeOf(key verdictKey, v Verdict) uint64 {
	const entry = 550
	return uint64(entry+len(key.signature)+len(key.source)) + sizeOfOutcomes(&v)
}

// sizeOfOutcomes estimates the bytes of a verdict, which may be nil, with those in it.
func sizeOfOutcomes(v *Verdict) uint64 {
	const outcome = 170
	if v == nil {
		return 0
	}
	bytes := sizeOfOutcomes(v.Own) + sizeOfOutcomes(v.Shadow)
	for _, o := range v.Policies {
		bytes += uint64(outcome + len(o.Message))
	}
	return bytes
}

// lifeOf returns how long a verdict is cached.
func lifeOf(v Verdict) time.Duration {
	if v.Result == Passed {
		return passedLife
	}
	return otherLife
}
