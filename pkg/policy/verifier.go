// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"sync"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/utils/clock"
)

// Policies lists policies.
type Policies interface {
	// Policies returns the policies of a namespace.
	Policies(namespace string) ([]*v1alpha1.VerificationPolicy, error)
}

// ClusterPolicies are the ClusterVerificationPolicies of the cluster.
type ClusterPolicies interface {
	// Ranks returns the policies that select a namespace. The error means that they are not
	// known.
	Ranks(namespace string) (Ranks, error)
}

// maxNamespaces bounds the namespaces whose Sets are cached.
const maxNamespaces = 5_000

// minKMSAge is the minimum age of a key from a KMS before a failed verification
// makes the Verifier read the key again.
const minKMSAge = 10 * time.Second

// Verifier verifies resources with the policies of their namespaces. It caches
// policies, keys and verdicts. It is safe for concurrent use.
type Verifier struct {
	policies Policies
	cluster  ClusterPolicies
	keys     *Keys
	clock    clock.PassiveClock

	mu      sync.Mutex // guards changes, together with writes to sets
	changes uint64     // counts the calls of PoliciesChanged
	sets    *ttlcache.Cache[string, *Set]

	verdicts *ttlcache.Cache[verdictKey, Verdict]
}

// New returns a Verifier, for callers that make attestations. Without ClusterPolicies, only
// those of the namespaces count. The caller must call
// PoliciesChanged whenever a policy of a namespace changes, and ClusterChanged whenever
// ClusterPolicies has another answer.
func New(policies Policies, cluster ClusterPolicies, sources Sources) *Verifier {
	return &Verifier{
		policies: policies, cluster: cluster,
		keys:     newKeys(sources, newKMSLimits(reportPatience, sources)),
		clock:    sources.Clock,
		sets:     ttlcache.New(ttlcache.WithCapacity[string, *Set](maxNamespaces)),
		verdicts: newVerdictCache(),
	}
}

// PoliciesChanged makes the Verifier list the policies of a namespace again.
func (v *Verifier) PoliciesChanged(namespace string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes++ // a caller that is listing policies now may have the old ones
	v.sets.Delete(namespace)
}

// ClusterChanged makes the Verifier ask for the ClusterVerificationPolicies of each namespace
// again.
func (v *Verifier) ClusterChanged() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes++
	v.sets.DeleteAll()
}

// Cached returns the numbers of cached verdicts and keys.
func (v *Verifier) Cached() (verdicts, keys int) { return v.verdicts.Len(), v.keys.Cached() }

// Verify returns the verdict of the policies for a namespace on the input. It returns
// an error when the policies cannot be listed or the context ends. The verdict is
// shared with other callers; do not change it.
func (v *Verifier) Verify(ctx context.Context, namespace string, in Input) (Verdict, error) {
	began := v.clock.Now()
	verdict, cached, err := v.verifyFresh(ctx, namespace, in)
	if err == nil && v.keys.sources.Judged != nil {
		v.keys.sources.Judged(ctx, verdict.Result, cached, v.clock.Since(began))
	}
	return verdict, err
}

// verifyFresh reads the keys from a KMS again before a verdict fails because of an old one.
// cached reports that the verdict was made before.
func (v *Verifier) verifyFresh(ctx context.Context, namespace string, in Input) (verdict Verdict, cached bool, err error) {
	verdict, oldestKMS, cached, err := v.verify(ctx, namespace, in)
	if err != nil || verdict.Result != Failed || verdict.Reason == Unsigned || oldestKMS.IsZero() {
		return verdict, cached, err
	}
	// The KMS may have rotated its key.
	stale := v.clock.Now().Add(-minKMSAge)
	if oldestKMS.After(stale) {
		return verdict, cached, nil
	}
	v.keys.forgetKMS(stale)
	v.sets.Delete(namespace)
	verdict, _, cached, err = v.verify(ctx, namespace, in)
	return verdict, cached, err
}

// verify also returns the time when the oldest key from a KMS was read.
func (v *Verifier) verify(ctx context.Context, namespace string, in Input) (verdict Verdict, oldestKMS time.Time, cached bool, err error) {
	set, err := v.set(namespace)
	if err != nil {
		return Verdict{}, time.Time{}, false, err
	}
	m := set.match(in.Source)
	keys := m.currentKeys(ctx, set.keys)
	key, cacheable := newVerdictKey(keys, in)
	if cacheable {
		if item := v.verdicts.Get(key); item != nil {
			return item.Value(), keys.oldestKMS, true, nil
		}
	}
	verdict = m.verify(ctx, in, keys)
	if err := ctx.Err(); err != nil {
		return Verdict{}, time.Time{}, false, err // the end of the context may have failed a call
	}
	if cacheable {
		v.verdicts.Set(key, verdict, lifeOf(verdict))
	}
	return verdict, keys.oldestKMS, false, nil
}

// set returns the Set of the policies for a namespace.
func (v *Verifier) set(namespace string) (*Set, error) {
	if item := v.sets.Get(namespace); item != nil {
		return item.Value(), nil
	}
	before := v.changeCount()
	policies, err := v.policies.Policies(namespace)
	if err != nil {
		return nil, err
	}
	var ranks Ranks
	if v.cluster != nil {
		if ranks, err = v.cluster.Ranks(namespace); err != nil {
			return nil, err
		}
	}
	return v.cacheSet(namespace, NewSet(policies, v.keys).With(ranks), before), nil
}

func (v *Verifier) changeCount() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changes
}

// cacheSet caches the Set unless policies changed after they were listed. It returns
// the Set to use: that of a concurrent caller if there is one, because a Set reads the
// keys of its policies once for all of its callers.
func (v *Verifier) cacheSet(namespace string, set *Set, before uint64) *Set {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changes != before {
		return set
	}
	item, _ := v.sets.GetOrSet(namespace, set, ttlcache.WithTTL[string, *Set](ttlcache.NoTTL))
	return item.Value()
}
