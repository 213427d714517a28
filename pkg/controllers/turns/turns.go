// SPDX-License-Identifier: Apache-2.0

// Package turns lets the namespaces take turns at a work queue.
package turns

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/reconciler"
)

// Turns lets the namespaces take turns at a work queue, so that a namespace with many
// changed resources does not delay the resources of other namespaces. The work queue
// itself works off its keys in the order of their arrival. So each namespace may have
// only a few keys there, and its other keys wait here until one of these is done.
//
// A retry after an error does not wait here: the work queue adds the key itself, and
// its back-off limits how many there are.
type Turns struct {
	enqueue func(types.NamespacedName) // adds a key to the work queue
	share   int

	mu         sync.Mutex
	namespaces map[string]*namespaceTurns // without those that have no keys
}

// namespaceTurns are the keys of one namespace.
type namespaceTurns struct {
	// admitted are the keys in the work queue.
	admitted map[types.NamespacedName]*turn
	// waiting has the lane of each name that waits. There may be 100,000 of them.
	waiting map[string]Lane
	// lanes are the names in the order of their arrival. A name that moved to a better
	// lane, or that is not waiting any more, may still be in the other one.
	lanes [2][]string
}

// turn is a key in the work queue.
type turn struct {
	running bool
	// again says that the resource has changed while a worker was working on it.
	again bool
}

// Lane says which of the waiting keys of a namespace are first.
type Lane uint8

// The lanes, the best one first.
const (
	Changed Lane = iota // somebody has changed the object
	Checked             // the object is looked at again for another reason
)

// New returns Turns that add keys to a work queue. share is the number of keys that a
// namespace may have in the work queue, with those that are being worked on.
func New(enqueue func(types.NamespacedName), share int) *Turns {
	return &Turns{enqueue: enqueue, share: share, namespaces: map[string]*namespaceTurns{}}
}

// Add enqueues a key, now or when it is the turn of its namespace.
func (t *Turns) Add(key types.NamespacedName, in Lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.namespaces[key.Namespace]
	if n == nil {
		n = &namespaceTurns{admitted: map[types.NamespacedName]*turn{}, waiting: map[string]Lane{}}
		t.namespaces[key.Namespace] = n
	}
	if admitted := n.admitted[key]; admitted != nil {
		admitted.again = admitted.running
		return
	}
	n.wait(key.Name, in)
	t.admit(key.Namespace, n)
}

// run calls work for a key that a worker has taken from the work queue.
func (t *Turns) run(key types.NamespacedName, work func() error) error {
	t.begin(key)
	defer t.end(key)
	return work()
}

func (t *Turns) begin(key types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.namespaces[key.Namespace]; n != nil && n.admitted[key] != nil {
		n.admitted[key].running = true
	}
}

func (t *Turns) end(key types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.namespaces[key.Namespace]
	if n == nil || n.admitted[key] == nil { // a retry
		return
	}
	again := n.admitted[key].again
	delete(n.admitted, key)
	if again {
		n.wait(key.Name, Changed)
	}
	t.admit(key.Namespace, n)
	if len(n.admitted) == 0 {
		delete(t.namespaces, key.Namespace)
	}
}

// admit fills the share of a namespace.
func (t *Turns) admit(namespace string, n *namespaceTurns) {
	for len(n.admitted) < t.share {
		name, ok := n.next()
		if !ok {
			return
		}
		key := types.NamespacedName{Namespace: namespace, Name: name}
		n.admitted[key] = &turn{}
		t.enqueue(key)
	}
}

// wait adds a name to a lane, unless the name waits in this lane or a better one.
func (n *namespaceTurns) wait(name string, in Lane) {
	if current, ok := n.waiting[name]; ok && current <= in {
		return
	}
	n.waiting[name] = in
	n.lanes[in] = append(n.lanes[in], name)
}

// next removes the name that has waited for longest in the best lane.
func (n *namespaceTurns) next() (string, bool) {
	for in := range n.lanes {
		for len(n.lanes[in]) > 0 {
			name := n.lanes[in][0]
			n.lanes[in] = n.lanes[in][1:]
			if current, ok := n.waiting[name]; ok && current == Lane(in) {
				delete(n.waiting, name)
				return name, true
			}
		}
		n.lanes[in] = nil // frees the array
	}
	return "", false
}

// Reconciler returns a reconciler for the work queue that passes each key on to next.
func (t *Turns) Reconciler(leader reconciler.LeaderAware, next controller.Reconciler) controller.Reconciler {
	return &fair{LeaderAware: leader, turns: t, next: next}
}

// fair is a reconciler whose keys come from Turns.
type fair struct {
	reconciler.LeaderAware

	turns *Turns
	next  controller.Reconciler
}

// Reconcile implements controller.Reconciler.
func (f *fair) Reconcile(ctx context.Context, key string) error {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return controller.NewPermanentError(err)
	}
	return f.turns.run(name.AsNamespacedName(), func() error { return f.next.Reconcile(ctx, key) })
}
