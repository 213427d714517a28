// SPDX-License-Identifier: Apache-2.0

package resources

import (
	"container/list"
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/reconciler"
)

// turns lets the namespaces take turns at a work queue, so that a namespace with many
// changed resources does not delay the resources of other namespaces. The work queue
// itself works off its keys in the order of their arrival. So each namespace may have
// only a few keys there, and its other keys wait here until one of these is done.
//
// A retry after an error does not wait here: the work queue adds the key itself, and
// its back-off limits how many there are.
type turns struct {
	// enqueue adds a key to the work queue.
	enqueue func(types.NamespacedName)
	// share is the number of keys that a namespace may have in the work queue,
	// with those that are being worked on.
	share int

	mu         sync.Mutex
	namespaces map[string]*namespaceTurns // without those that have no keys
}

// namespaceTurns are the keys of one namespace.
type namespaceTurns struct {
	// admitted are the keys in the work queue.
	admitted map[types.NamespacedName]*turn
	// waiting has the place of each key that waits, in one of the lanes.
	waiting map[types.NamespacedName]place
	lanes   [2]list.List
}

// place is an element of a lane. Its value is the key.
type place struct {
	in      lane
	element *list.Element
}

// turn is a key in the work queue.
type turn struct {
	running bool
	// again says that the resource has changed while a worker was working on it.
	again bool
}

// lane says which of the waiting keys of a namespace are first.
type lane int

const (
	changed lane = iota // a user has changed the resource
	checked             // the resource is looked at again for another reason
)

func newTurns(enqueue func(types.NamespacedName), share int) *turns {
	return &turns{enqueue: enqueue, share: share, namespaces: map[string]*namespaceTurns{}}
}

// add enqueues a key, now or when it is the turn of its namespace.
func (t *turns) add(key types.NamespacedName, in lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.namespaces[key.Namespace]
	if n == nil {
		n = &namespaceTurns{admitted: map[types.NamespacedName]*turn{}, waiting: map[types.NamespacedName]place{}}
		t.namespaces[key.Namespace] = n
	}
	if admitted := n.admitted[key]; admitted != nil {
		admitted.again = admitted.running
		return
	}
	n.wait(key, in)
	t.admit(n)
}

// run calls work for a key that a worker has taken from the work queue.
func (t *turns) run(key types.NamespacedName, work func() error) error {
	t.begin(key)
	defer t.end(key)
	return work()
}

func (t *turns) begin(key types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.namespaces[key.Namespace]; n != nil && n.admitted[key] != nil {
		n.admitted[key].running = true
	}
}

func (t *turns) end(key types.NamespacedName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.namespaces[key.Namespace]
	if n == nil || n.admitted[key] == nil { // a retry
		return
	}
	again := n.admitted[key].again
	delete(n.admitted, key)
	if again {
		n.wait(key, changed)
	}
	t.admit(n)
	if len(n.admitted) == 0 {
		delete(t.namespaces, key.Namespace)
	}
}

// admit fills the share of a namespace.
func (t *turns) admit(n *namespaceTurns) {
	for len(n.admitted) < t.share {
		key, ok := n.next()
		if !ok {
			return
		}
		n.admitted[key] = &turn{}
		t.enqueue(key)
	}
}

// wait adds a key to a lane, unless the key waits in this lane or a better one.
func (n *namespaceTurns) wait(key types.NamespacedName, in lane) {
	if current, ok := n.waiting[key]; ok {
		if current.in <= in {
			return
		}
		n.lanes[current.in].Remove(current.element)
	}
	n.waiting[key] = place{in, n.lanes[in].PushBack(key)}
}

// next removes the key that has waited for longest in the best lane.
func (n *namespaceTurns) next() (types.NamespacedName, bool) {
	for in := range n.lanes {
		if first := n.lanes[in].Front(); first != nil {
			key := n.lanes[in].Remove(first).(types.NamespacedName)
			delete(n.waiting, key)
			return key, true
		}
	}
	return types.NamespacedName{}, false
}

// fair is a reconciler whose keys come from turns.
type fair struct {
	reconciler.LeaderAware // of next

	turns *turns
	next  controller.Reconciler
}

func (f *fair) Reconcile(ctx context.Context, key string) error {
	name, err := parseKey(key)
	if err != nil {
		return err
	}
	return f.turns.run(name, func() error { return f.next.Reconcile(ctx, key) })
}
