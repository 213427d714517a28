package policy

import (
	"context"
	"sync"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"k8s.io/utils/clock"
)

// Policies lists the policies of a namespace.
type Policies interface {
	Policies(namespace string) ([]*v1alpha1.VerificationPolicy, error)
}

// maxNamespaces bounds how many namespaces' policies are kept loaded.
const maxNamespaces = 5_000

// minKMSAge is how old a key from a KMS must be before a failed verification
// makes us ask for it again.
const minKMSAge = 10 * time.Second

// Verifier verifies resources by the policies of namespaces, and remembers.
type Verifier struct {
	policies Policies
	keys     *Keys
	clock    clock.PassiveClock

	mu      sync.Mutex // guards changes together with trusts
	changes uint64     // of policies
	trusts  *ttlcache.Cache[string, *Set]

	verdicts *ttlcache.Cache[question, Verdict]
}

// New makes a Verifier. PoliciesChanged must be called when policies do.
func New(policies Policies, secrets Secrets, clock clock.PassiveClock) *Verifier {
	return &Verifier{
		policies: policies,
		keys:     NewKeys(secrets, clock),
		clock:    clock,
		trusts:   ttlcache.New(ttlcache.WithCapacity[string, *Set](maxNamespaces)),
		verdicts: newVerdicts(),
	}
}

// PoliciesChanged drops what was made of the policies of a namespace.
func (v *Verifier) PoliciesChanged(namespace string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changes++ // who loads policies right now may have seen the old ones
	v.trusts.Delete(namespace)
}

// Verify says what the policies of the namespace say about the subject. The
// error says that they cannot be listed, or that the context ended. The verdict
// is shared with other callers: it is not to be changed.
func (v *Verifier) Verify(ctx context.Context, namespace string, s Input) (Verdict, error) {
	trust, err := v.trust(ctx, namespace)
	if err != nil {
		return Verdict{}, err
	}
	verdict, err := v.verify(ctx, trust, s)
	if verdict.Result != Failed || verdict.Reason == Unsigned || trust.kmsRead.IsZero() {
		return verdict, err
	}
	// A KMS may have rotated its key.
	stale := v.clock.Now().Add(-minKMSAge)
	if trust.kmsRead.After(stale) {
		return verdict, nil
	}
	v.keys.forgetKMS(stale)
	v.trusts.Delete(namespace)
	if trust, err = v.trust(ctx, namespace); err != nil {
		return Verdict{}, err
	}
	return v.verify(ctx, trust, s)
}

func (v *Verifier) verify(ctx context.Context, trust *Set, s Input) (Verdict, error) {
	q, cacheable := ask(trust, s)
	if cacheable {
		if item := v.verdicts.Get(q); item != nil {
			return item.Value(), nil
		}
	}
	verdict := trust.Verify(ctx, s)
	if err := ctx.Err(); err != nil {
		return Verdict{}, err // a KMS may not have answered for that
	}
	if cacheable {
		v.verdicts.Set(q, verdict, life(verdict))
	}
	return verdict, nil
}

// trust is what the namespace's policies trust now.
func (v *Verifier) trust(ctx context.Context, namespace string) (*Set, error) {
	if item := v.trusts.Get(namespace); item != nil {
		if trust := item.Value(); trust.expires.IsZero() || v.clock.Now().Before(trust.expires) {
			return trust, nil
		}
	}
	before := v.changed()
	policies, err := v.policies.Policies(namespace)
	if err != nil {
		return nil, err
	}
	trust := NewSet(ctx, policies, v.keys)
	if err := ctx.Err(); err != nil {
		return nil, err // that a key was not read says nothing about it
	}
	v.keep(namespace, trust, before)
	return trust, nil
}

func (v *Verifier) changed() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changes
}

// keep remembers what was made of policies unless some have changed meanwhile.
func (v *Verifier) keep(namespace string, trust *Set, before uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.changes == before {
		v.trusts.Set(namespace, trust, ttlcache.NoTTL)
	}
}
