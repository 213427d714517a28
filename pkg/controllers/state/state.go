// SPDX-License-Identifier: Apache-2.0

// Package state makes snapshots, and calls the controllers when a part of a
// snapshot changes.
package state

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	chainsconfig "github.com/tektoncd/chains/pkg/config"
	policyclient "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1alpha1"
	policylisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/snapshot"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// AllNamespaces stands for every namespace.
const AllNamespaces = metav1.NamespaceAll

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// Sources are what the parts of snapshots are read from.
type Sources struct {
	// SecretsDir is the directory in which the signing secret is mounted.
	SecretsDir string
	// Scope limits the controllers to some namespaces. Empty means all namespaces.
	Scope        []string
	Namespaces   corev1listers.NamespaceLister
	Policies     policylisters.VerificationPolicyLister
	LivePolicies policyclient.VerificationPoliciesGetter
	// Secrets reads the keys of the authorities of policies.
	Secrets policy.Secrets
	Emitter Emitter
	// Loading is called with a configuration before it is reported.
	Loading func(*config.Config)
	// Rings are the KeyRings of the cluster.
	Rings Rings
	// Cluster are the ClusterVerificationPolicies.
	Cluster policy.ClusterPolicies
}

// Rings are the KeyRings of the cluster.
type Rings interface {
	// For returns the keys of a namespace with these labels. ok is false if no KeyRing
	// serves the namespace.
	For(namespace map[string]string) (ring *keys.Ring, ok bool)
	// All returns the keys of each KeyRing.
	All() []*keys.Ring
}

// State makes snapshots. Each part is replaced as a whole when it changes.
type State struct {
	sources Sources
	config  *config.Store
	keys    *keys.Loader
	release atomic.Pointer[tekton.Release]
	// unsafe is why requesters cannot be relied upon.
	unsafe atomic.Pointer[error]
	live   *livePolicies
	// policyKeys reads the keys of the authorities of policies.
	policyKeys *policy.Keys
	problems   problems

	mu        sync.RWMutex // guards listeners
	listeners []func(namespace string)
}

// New returns a State with the default configuration, which signs nothing. Watch
// and WatchRelease feed it.
func New(ctx context.Context, sources Sources) *State {
	s := &State{sources: sources}
	s.release.Store(&tekton.Release{})
	s.unsafe.Store(&decision.ErrRequesterUnknown)
	s.keys = keys.NewLoader(sources.SecretsDir, func() { s.Changed(AllNamespaces) })
	s.keys.OnRequest(s.KMSRequested)
	s.config = config.NewStore(
		func(c *config.Config) { s.configLoaded(ctx, c) },
		func(cm *corev1.ConfigMap, err error) {
			sources.Emitter.Emit(ctx, observe.ConfigRefused{ConfigMap: cm, Err: err})
		},
	)
	s.policyKeys = policy.NewKeys(s.policySources(observe.SigningKeys))
	s.live = newLivePolicies(sources.LivePolicies, sources.Cluster, s.policyKeys, clock.RealClock{})
	return s
}

// PolicySources returns what the keys of policies are read with, for all who verify
// with policies.
func (s *State) PolicySources() policy.Sources { return s.policySources(observe.RunKeys) }

func (s *State) policySources(cache observe.Cache) policy.Sources {
	emit := s.sources.Emitter.Emit
	return policy.Sources{
		Secrets: s.sources.Secrets, Clock: clock.RealClock{},
		Access:         func() policy.Access { return s.config.Load() },
		SecretUnusable: observe.SecretUnusable(emit),
		Judged: func(ctx context.Context, result policy.Result, cached bool, took time.Duration) {
			emit(ctx, observe.Judged{Result: string(result), Cached: cached, Took: took})
		},
		KeyWanted:    func(ctx context.Context, cached bool) { emit(ctx, observe.CacheAsked{Cache: cache, Hit: cached}) },
		KMSRequested: s.KMSRequested,
	}
}

// KMSRequested reports a request to a KMS.
func (s *State) KMSRequested(ctx context.Context, r keys.Request) {
	s.sources.Emitter.Emit(ctx, observe.KMSRequested{Provider: r.Provider, Operation: string(r.Operation), Took: r.Took, Err: r.Err})
}

// Snapshot returns the snapshot of a namespace at this moment.
func (s *State) Snapshot(namespace string) *snapshot.Snapshot {
	ns := s.namespace(namespace)
	return &snapshot.Snapshot{
		Config:      s.config.Load(),
		Keys:        s.keysOf(ns),
		Release:     *s.release.Load(),
		Namespace:   ns,
		Authorities: cachedAuthorities{s, namespace},

		RequesterUnsafe: *s.unsafe.Load(),
	}
}

// Decide decides about a resource. A decision that overwrites a signature is made
// with policies and keys that were read after this process received the state of
// the resource, because an informer cache can be out of date (docs/design/0004). If
// they have not been read yet, the error of the decision asks the work queue to
// come back.
func (s *State) Decide(ctx context.Context, r *resource.Summary) decision.Decision {
	snap := s.Snapshot(r.Namespace)
	d := decision.Decide(ctx, snap, r)
	if !d.Overwrites {
		return d
	}
	return decision.Decide(ctx, snap.WithAuthorities(liveAuthorities{s.live, r}), r)
}

// Selects reports whether the resources of a namespace are signed.
func (s *State) Selects(namespace string) bool {
	ns := s.namespace(namespace)
	return ns.Active && s.config.Load().Selects(ns.Labels)
}

// SetRequesterUnsafe sets why the requesters in resources cannot be relied upon; nil if
// they can.
func (s *State) SetRequesterUnsafe(err error) {
	s.unsafe.Store(&err)
	s.Changed(AllNamespaces)
}

// Dialect returns the dialect of the installed release of Tekton.
func (s *State) Dialect() tekton.Dialect { return s.release.Load().Dialect() }

// Config returns the configuration in force.
func (s *State) Config() *config.Config { return s.config.Load() }

// Keys returns all keys of this installation: those of the KeyRings, and those of the
// signing secret and the settings. None of them signs.
func (s *State) Keys() *keys.Ring {
	return keys.Merge(append(s.sources.Rings.All(), s.keys.Ring())...)
}

// LegacyKeys returns the keys of the signing secret and of the settings, which sign where
// there is no KeyRing.
func (s *State) LegacyKeys() *keys.Ring { return s.keys.Ring() }

// PolicyKeys returns what the keys of policies are read with, for decisions.
func (s *State) PolicyKeys() *policy.Keys { return s.policyKeys }

// keysOf returns the keys for the resources of a namespace.
func (s *State) keysOf(ns snapshot.Namespace) *keys.Ring {
	ring, found := s.sources.Rings.For(ns.Labels)
	if !found {
		return s.keys.Ring()
	}
	return ring.Knowing(s.keys.Ring())
}

// ActiveKey returns the key that signs resources of a kind in a namespace. The error
// wraps keys.ErrNoKey.
func (s *State) ActiveKey(kind resource.Kind, namespace string) (*keys.Key, error) {
	return s.keysOf(s.namespace(namespace)).Active(s.config.Load().Signer(kind))
}

// Scope returns the namespaces that the controllers are limited to. Empty means
// all namespaces.
func (s *State) Scope() []string { return s.sources.Scope }

// InvalidateKey makes the key ring load the active key of a kind again: after a
// rotation in a KMS its signatures do not verify with the public key that was
// read. A KeyRing names the version of a key, so its keys stay as they are.
func (s *State) InvalidateKey(kind resource.Kind) { s.keys.Invalidate(s.config.Load().Signer(kind)) }

// RunSigner returns a signer of a type for a run, as keys.Loader describes it.
func (s *State) RunSigner(ctx context.Context, signerType string, settings chainsconfig.KMSSigner) (signature.SignerVerifier, error) {
	return s.keys.RunSigner(ctx, signerType, settings)
}

// OnChange registers a function that is called with the namespace (or
// AllNamespaces) whose snapshot has changed.
func (s *State) OnChange(listener func(namespace string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, listener)
}

// Changed calls the listeners.
func (s *State) Changed(namespace string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, listener := range s.listeners {
		listener(namespace)
	}
}

func (s *State) configLoaded(ctx context.Context, c *config.Config) {
	s.sources.Loading(c)
	s.sources.Emitter.Emit(ctx, observe.ConfigLoaded{SignerTypes: c.SignerTypes(), Namespaces: c.Namespaces})
	s.keys.Configure(ctx, keys.Settings{SignerTypes: c.SignerTypes(), KMS: c.Chains.Signers.KMS})
	s.Changed(AllNamespaces)
}

func (s *State) namespace(name string) snapshot.Namespace {
	ns, err := s.sources.Namespaces.Get(name)
	if err != nil {
		return snapshot.Namespace{} // not in the cache yet: its arrival calls the listeners
	}
	return snapshot.Namespace{Labels: ns.Labels, Active: ns.DeletionTimestamp == nil}
}

// cachedAuthorities are the authorities of the policies in the informer cache.
type cachedAuthorities struct {
	state     *State
	namespace string
}

var _ snapshot.Authorities = cachedAuthorities{}

// Authorizes implements snapshot.Authorities.
func (a cachedAuthorities) Authorizes(ctx context.Context, signature, checksum []byte) (bool, error) {
	policies, err := a.state.sources.Policies.VerificationPolicies(a.namespace).List(labels.Everything())
	if err != nil {
		return false, err
	}
	ranks, err := a.state.sources.Cluster.Ranks(a.namespace)
	if err != nil {
		return false, err
	}
	return policy.NewSet(policies, a.state.policyKeys).With(ranks).Authorizes(ctx, signature, checksum)
}
