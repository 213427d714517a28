// SPDX-License-Identifier: Apache-2.0

// Package rings follows the KeyRings of the controller's namespace in every replica, and
// loads their keys.
package rings

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

const (
	// readInterval is the time between two reads of the KeyRings.
	readInterval = 2 * time.Second
	// readTimeout bounds one read.
	readTimeout = 10 * time.Second
	// Fence is how old a read may be for a key to sign. The leader waits for longer
	// before it says that an older key signs nothing any more (docs/design/0029).
	Fence = 30 * time.Second
)

var (
	// ErrNotRead means that the KeyRings were not read recently, so that a key may not be
	// active any more.
	ErrNotRead = errors.New("the KeyRings could not be read, so it is not known which key may sign")
	errSeveral = errors.New("several KeyRings select the namespace, so none of them signs there; change their namespaceSelector")
)

// Rings are the KeyRings with their keys. They are safe for concurrent use.
type Rings struct {
	client Client
	keys   *Keys
	clock  clock.PassiveClock

	view     atomic.Pointer[view]
	mu       sync.Mutex // guards changed
	changed  []func()
	wasFresh atomic.Bool
}

// view is what one read gave. It is never changed.
type view struct {
	read  time.Time // when the read began
	rings []ring
}

type ring struct {
	name     string
	selector labels.Selector // nil for the ring "default"
	keys     *keys.Ring
	version  string // of the object
}

// New returns Rings that have read nothing: nothing is signed before the first read.
func New(client Client, keys *Keys, clock clock.PassiveClock) *Rings {
	r := &Rings{client: client, keys: keys, clock: clock}
	r.view.Store(&view{})
	return r
}

// OnChange registers a function that is called when a ring has changed, or the keys may
// not sign any more because the KeyRings cannot be read.
func (r *Rings) OnChange(changed func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = append(r.changed, changed)
}

// Run reads the KeyRings until the context ends.
func (r *Rings) Run(ctx context.Context) { wait.UntilWithContext(ctx, r.Read, readInterval) }

// Read reads the KeyRings, and loads keys that are new.
func (r *Rings) Read(ctx context.Context) {
	before := r.view.Load()
	next, err := r.read(ctx)
	if err != nil {
		logging.FromContext(ctx).Errorw("Cannot read the KeyRings", zap.Duration("signingEndsAfter", Fence), zap.Error(err))
	} else {
		r.view.Store(next)
	}
	fresh := r.fresh(r.view.Load())
	if r.wasFresh.Swap(fresh) == fresh && (err != nil || same(before, next)) {
		return
	}
	r.mu.Lock()
	changed := slices.Clone(r.changed)
	r.mu.Unlock()
	for _, call := range changed {
		call()
	}
}

func (r *Rings) read(ctx context.Context) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	next := &view{read: r.clock.Now()}
	list, err := r.client.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) { // the CustomResourceDefinition is not installed
		return next, nil
	}
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		next.rings = append(next.rings, r.load(ctx, &list.Items[i]))
	}
	r.keys.keep(list.Items)
	return next, nil
}

func same(a, b *view) bool {
	return slices.EqualFunc(a.rings, b.rings, func(a, b ring) bool {
		return a.name == b.name && a.version == b.version && a.keys.Same(b.keys)
	})
}

// load returns a ring as its status says: the controller makes keys active.
func (r *Rings) load(ctx context.Context, object *v1alpha1.KeyRing) ring {
	loaded := ring{name: object.Name, version: object.ResourceVersion}
	if object.Name != v1alpha1.DefaultKeyRing {
		selector, err := metav1.LabelSelectorAsSelector(object.Spec.NamespaceSelector)
		if err != nil {
			selector = labels.Nothing()
			logging.FromContext(ctx).Errorw("KeyRing selects nothing", "keyRing", object.Name, zap.Error(err))
		}
		loaded.selector = selector
	}
	loaded.keys = r.keys.ring(ctx, object)
	return loaded
}

// For returns the ring of a namespace with these labels. found is false if no KeyRing
// serves the namespace.
func (r *Rings) For(namespace map[string]string) (found *keys.Ring, ok bool) {
	current := r.view.Load()
	if current.read.IsZero() {
		return keys.NewRing(nil, ErrNotRead, nil, nil), true
	}
	selecting, fallback := current.of(namespace)
	switch {
	case len(selecting) > 1:
		known := keys.Merge(keysOf(selecting)...)
		return known.Without(fmt.Errorf("%w: %v", errSeveral, names(selecting))), true
	case len(selecting) == 1:
		found = selecting[0].keys
	case fallback != nil:
		found = fallback.keys
	case r.fresh(current):
		return nil, false
	default: // there may be a KeyRing by now
		return keys.NewRing(nil, ErrNotRead, nil, nil), true
	}
	if !r.fresh(current) {
		return found.Without(ErrNotRead), true
	}
	return found, true
}

// NameFor returns the name of the ring of a namespace with these labels. It is empty if
// none or several serve the namespace.
func (r *Rings) NameFor(namespace map[string]string) string {
	switch selecting, fallback := r.view.Load().of(namespace); {
	case len(selecting) == 1:
		return selecting[0].name
	case len(selecting) == 0 && fallback != nil:
		return fallback.name
	}
	return ""
}

// of returns the rings that select a namespace, and the ring for all others.
func (v *view) of(namespace map[string]string) (selecting []ring, fallback *ring) {
	for i := range v.rings {
		switch found := v.rings[i]; {
		case found.selector == nil:
			fallback = &v.rings[i]
		case found.selector.Matches(labels.Set(namespace)):
			selecting = append(selecting, found)
		}
	}
	return selecting, fallback
}

// All returns the keys of all rings.
func (r *Rings) All() []*keys.Ring { return keysOf(r.view.Load().rings) }

// Names returns the names of all rings.
func (r *Rings) Names() []string { return names(r.view.Load().rings) }

// fresh reports whether a read is recent enough to sign.
func (r *Rings) fresh(v *view) bool { return !v.read.IsZero() && r.clock.Since(v.read) <= Fence }

func keysOf(rings []ring) (all []*keys.Ring) {
	for _, ring := range rings {
		all = append(all, ring.keys)
	}
	return all
}

func names(rings []ring) (all []string) {
	for _, ring := range rings {
		all = append(all, ring.name)
	}
	return all
}

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

// ring returns the keys of a ring in the states that its status and spec give them.
func (k *Keys) ring(ctx context.Context, object *v1alpha1.KeyRing) *keys.Ring {
	status := keyring.Observe(object, k.Load(ctx, object), k.clock.Now())
	var active *keys.Key
	problem := fmt.Errorf("KeyRing %s has no active key yet; its status says why", object.Name)
	var known, revoked []*keys.Key
	var replaceable []string
	for _, key := range status.Keys {
		switch key.State {
		case v1alpha1.KeyRevoked:
			revoked = appendKey(revoked, key, keys.FromRevokedPEM)
			if keyring.MayReplace(object, &key) {
				replaceable = append(replaceable, key.KeyID)
			}
			continue
		case v1alpha1.KeyActive:
			if active, problem = k.Key(ctx, object, key.Name); problem == nil && active.ID != key.KeyID {
				active, problem = nil, errors.New(key.Problem)
			}
		}
		known = appendKey(known, key, keys.FromPEM)
	}
	return keys.NewRing(active, problem, known, revoked).Replacing(replaceable...)
}

// appendKey appends the public half of a key. A key whose public half was never known
// has signed nothing.
func appendKey(all []*keys.Key, status v1alpha1.RingKeyStatus, parse func(string) (*keys.Key, error)) []*keys.Key {
	if key, err := parse(status.PublicKey); err == nil {
		return append(all, key)
	}
	return all
}
