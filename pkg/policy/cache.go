package policy

import (
	"crypto/sha256"
	"time"

	"github.com/jellydator/ttlcache/v3"
)

// MaxVerdicts is how many verdicts a Verifier remembers at most.
const MaxVerdicts = 20_000

// The other bounds of the cache of verdicts. An ordinary one takes 850 bytes,
// and more when many policies match.
const (
	maxVerdictBytes = 16 << 20
	// maxQuestion bounds what a key of the cache may hold of the input.
	maxQuestion = 4 << 10

	passedLife = 10 * time.Minute
	otherLife  = 30 * time.Second
)

// question is all that a verdict rests on: it cannot be found again once any of
// it has changed.
type question struct {
	trust     [sha256.Size]byte
	checksum  [sha256.Size]byte
	signature string
	source    string
	noMatch   Mode
}

func ask(t *Set, s Input) (q question, cacheable bool) {
	q = question{trust: t.id, signature: s.Signature, source: s.Source, noMatch: s.NoMatch}
	n := copy(q.checksum[:], s.Checksum)
	return q, n == len(s.Checksum) && n == sha256.Size && len(s.Signature)+len(s.Source) <= maxQuestion
}

func newVerdicts() *ttlcache.Cache[question, Verdict] {
	return ttlcache.New(
		ttlcache.WithCapacity[question, Verdict](MaxVerdicts),
		ttlcache.WithDisableTouchOnHit[question, Verdict](), // an entry's life does not grow with its use
		ttlcache.WithMaxCost(maxVerdictBytes, func(item ttlcache.CostItem[question, Verdict]) uint64 {
			return cost(item.Key, item.Value)
		}),
	)
}

// cost estimates bytes.
func cost(q question, v Verdict) uint64 {
	const entry, outcome = 500, 120
	bytes := entry + len(q.signature) + len(q.source)
	for _, o := range v.Policies {
		bytes += outcome + len(o.Message)
	}
	return uint64(bytes)
}

func life(v Verdict) time.Duration {
	if v.Result == Passed {
		return passedLife
	}
	return otherLife
}
