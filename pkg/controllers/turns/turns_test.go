// SPDX-License-Identifier: Apache-2.0

package turns

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// workQueue is a list of the keys that were enqueued.
type workQueue struct{ keys []types.NamespacedName }

func (q *workQueue) add(key types.NamespacedName) { q.keys = append(q.keys, key) }

func (q *workQueue) take() types.NamespacedName {
	first := q.keys[0]
	q.keys = q.keys[1:]
	return first
}

func named(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func nothing() error { return nil }

// A key of a quiet namespace waits behind at most the share of each busy one.
func TestTurns_BusyNamespaceDoesNotDelayQuietOne(t *testing.T) {
	queue := &workQueue{}
	turns := New(queue.add, 2)
	for i := range 100 {
		turns.Add(named("busy", strconv.Itoa(i)), Changed)
	}
	turns.Add(named("quiet", "t"), Changed)
	want := []types.NamespacedName{named("busy", "0"), named("busy", "1"), named("quiet", "t")}
	if !slices.Equal(queue.keys, want) {
		t.Fatalf("the work queue has %v, want %v", queue.keys, want)
	}
	_ = turns.run(queue.take(), nothing)
	if last := queue.keys[len(queue.keys)-1]; last != named("busy", "2") {
		t.Errorf("after one was done: got %v, want the next of the busy namespace", last)
	}
}

func TestTurns_ChangedKeysAreBeforeCheckedOnes(t *testing.T) {
	queue := &workQueue{}
	turns := New(queue.add, 1)
	for _, name := range []string{"a", "b", "c"} {
		turns.Add(named("ns", name), Checked)
	}
	turns.Add(named("ns", "c"), Changed)
	turns.Add(named("ns", "d"), Changed)
	turns.Add(named("ns", "d"), Checked) // keeps its place
	if got := workedOff(turns, queue); !slices.Equal(got, []string{"a", "c", "d", "b"}) {
		t.Errorf("got the order %v", got)
	}
}

// workedOff runs all keys and returns their names in this order.
func workedOff(turns *Turns, queue *workQueue) (names []string) {
	for len(queue.keys) > 0 {
		key := queue.take()
		names = append(names, key.Name)
		_ = turns.run(key, nothing)
	}
	return names
}

func TestTurns_ChangeDuringWorkIsNotLost(t *testing.T) {
	queue := &workQueue{}
	turns := New(queue.add, 1)
	key := named("ns", "t")
	turns.Add(key, Changed)
	turns.Add(key, Changed) // is in the work queue already
	_ = turns.run(queue.take(), func() error {
		turns.Add(key, Changed)
		turns.Add(key, Checked)
		return nil
	})
	if got := workedOff(turns, queue); len(got) != 1 {
		t.Errorf("the key was worked off %d more times, want once", len(got))
	}
}

// A panic in the work, an error or a retry takes no place for ever.
func TestTurns_PlacesAreGivenBack(t *testing.T) {
	queue := &workQueue{}
	turns := New(queue.add, 1)
	turns.Add(named("ns", "a"), Changed)
	turns.Add(named("ns", "b"), Changed)
	func() {
		defer func() { _ = recover() }()
		_ = turns.run(queue.take(), func() error { panic("x") })
	}()
	if err := turns.run(queue.take(), func() error { return errors.New("x") }); err == nil {
		t.Error("the error of the work was lost")
	}
	if err := turns.run(named("ns", "a"), nothing); err != nil { // a retry
		t.Error(err)
	}
	if len(queue.keys) != 0 || len(turns.namespaces) != 0 {
		t.Errorf("%v are left in the work queue, %v in memory", queue.keys, turns.namespaces)
	}
}

// Each key is worked off after the last time that it was added, and no more keys of a
// namespace than its share are in the work queue.
func TestTurns_LoseNothing(t *testing.T) {
	const share = 3
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // needs to be repeatable
	queue := &workQueue{}
	turns := New(queue.add, share)
	due := map[types.NamespacedName]bool{}
	add := func() {
		key := named(strconv.Itoa(random.IntN(3)), strconv.Itoa(random.IntN(20)))
		due[key] = true
		turns.Add(key, []Lane{Changed, Checked}[random.IntN(2)])
	}
	work := func() {
		key := queue.take()
		_ = turns.run(key, func() error {
			delete(due, key)
			if random.IntN(4) == 0 {
				add()
			}
			return nil
		})
	}
	for range 10_000 {
		if random.IntN(2) == 0 || len(queue.keys) == 0 {
			add()
		} else {
			work()
		}
		if len(queue.keys) > 3*share {
			t.Fatalf("%d keys are in the work queue, want at most %d for each of 3 namespaces", len(queue.keys), share)
		}
	}
	for len(queue.keys) > 0 {
		work()
	}
	if len(due) > 0 || len(turns.namespaces) > 0 {
		t.Errorf("%d keys were never worked off; %d namespaces are left", len(due), len(turns.namespaces))
	}
}
