// SPDX-License-Identifier: Apache-2.0

// Package rings follows the KeyRings of the controller's namespace in every replica, and
// loads their keys.
package rings

import (
	"context"
	"errors"
	"fmt"
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

// Client reads and writes the KeyRings of the controller's namespace.
type Client interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*v1alpha1.KeyRing, error)
	List(ctx context.Context, o metav1.ListOptions) (*v1alpha1.KeyRingList, error)
	UpdateStatus(ctx context.Context, ring *v1alpha1.KeyRing, o metav1.UpdateOptions) (*v1alpha1.KeyRing, error)
}

// Rings are the KeyRings with their keys. They are safe for concurrent use.
type Rings struct {
	client Client
	keys   *Keys
	clock  clock.PassiveClock

	view     atomic.Pointer[view]
	wasFresh atomic.Bool
	// refused reports that For has refused a key since the last good read, because that
	// was too old. Whoever asked waits for a change.
	refused atomic.Bool

	reading sync.Mutex // one read after the other, so that the view never becomes older
	logged  time.Time  // when a failure was logged last; guarded by reading

	mu       sync.Mutex // guards the fields below
	changed  []func()
	written  []func()
	verified map[string]time.Time // by ID of the key
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
	trusted  []string // public keys in PEM that policies should trust
	version  string   // of the object
	states   []v1alpha1.RingKeyStatus
}

// New returns Rings that have read nothing: nothing is signed before the first read.
func New(client Client, keys *Keys, clock clock.PassiveClock) *Rings {
	r := &Rings{client: client, keys: keys, clock: clock, verified: map[string]time.Time{}}
	r.view.Store(&view{})
	return r
}

// OnChange registers a function that is called when other keys sign somewhere, or may not
// sign any more because the KeyRings cannot be read.
func (r *Rings) OnChange(changed func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = append(r.changed, changed)
}

// OnWrite registers a function that is called when a KeyRing was written.
func (r *Rings) OnWrite(written func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = append(r.written, written)
}

// Run reads the KeyRings until the context ends.
func (r *Rings) Run(ctx context.Context) { wait.UntilWithContext(ctx, r.Read, readInterval) }

// Read reads the KeyRings, and loads keys that are new.
func (r *Rings) Read(ctx context.Context) {
	changed, written := r.readAndCompare(ctx)
	r.mu.Lock()
	var calls []func()
	if changed {
		calls = append(calls, r.changed...)
	}
	if written {
		calls = append(calls, r.written...)
	}
	r.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// readAndCompare replaces the view. changed reports that other keys sign, or that who was
// refused a key may ask again; written that a KeyRing was written.
func (r *Rings) readAndCompare(ctx context.Context) (changed, written bool) {
	r.reading.Lock()
	defer r.reading.Unlock()
	before := r.view.Load()
	next, err := r.read(ctx)
	if err != nil {
		next = before
		r.logFailure(ctx, err)
	}
	r.view.Store(next)
	fresh := r.fresh(next)
	changed = r.wasFresh.Swap(fresh) != fresh || !sameKeys(before, next)
	recovered := fresh && r.refused.Swap(false)
	return changed || recovered, !slices.EqualFunc(before.rings, next.rings, func(a, b ring) bool { return a.name == b.name && a.version == b.version })
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
		r.recordUse(ctx, &list.Items[i])
	}
	r.keys.keep(list.Items)
	return next, nil
}

// logFailure logs a failed read, and not again for some time.
func (r *Rings) logFailure(ctx context.Context, err error) {
	if r.clock.Since(r.logged) < Fence {
		return
	}
	r.logged = r.clock.Now()
	logging.FromContext(ctx).Errorw("Cannot read the KeyRings", zap.Duration("signingEndsAfter", Fence), zap.Error(err))
}

func sameKeys(a, b *view) bool {
	return slices.EqualFunc(a.rings, b.rings, func(a, b ring) bool {
		return a.name == b.name && sameSelector(a.selector, b.selector) && a.keys.Same(b.keys) && slices.Equal(a.trusted, b.trusted)
	})
}

func sameSelector(a, b labels.Selector) bool {
	return (a == nil) == (b == nil) && (a == nil || a.String() == b.String())
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
	loaded.keys, loaded.trusted, loaded.states = r.keys.ring(ctx, object)
	return loaded
}

// Trusted returns the public keys in PEM that are to be trusted in a namespace with these
// labels. served is false if no KeyRing serves the namespace.
func (r *Rings) Trusted(namespace map[string]string) (trusted []string, served bool, err error) {
	current := r.view.Load()
	if current.read.IsZero() {
		return nil, false, ErrNotRead
	}
	switch selecting, fallback := current.of(namespace); {
	case len(selecting) > 1:
		return nil, true, fmt.Errorf("%w: %v", errSeveral, names(selecting))
	case len(selecting) == 1:
		return selecting[0].trusted, true, nil
	case fallback != nil:
		return fallback.trusted, true, nil
	}
	return nil, false, nil
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
		r.refused.Store(true)
		return keys.NewRing(nil, ErrNotRead, nil, nil), true
	}
	if !r.fresh(current) {
		r.refused.Store(true)
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

// States returns the states of the keys of all rings, as the last read says.
func (r *Rings) States() (all []v1alpha1.RingKeyStatus) {
	for _, ring := range r.view.Load().rings {
		all = append(all, ring.states...)
	}
	return all
}

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
