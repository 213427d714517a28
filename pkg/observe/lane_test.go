// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func pending(namespace, name string) pendingEvent {
	return pendingEvent{about: &corev1.ObjectReference{Namespace: namespace, Name: name}}
}

func fill(t *testing.T, l *lane, namespace string, count int) {
	t.Helper()
	for i := range count {
		if dropped := l.push(pending(namespace, fmt.Sprint(i))); dropped != nil {
			t.Fatalf("Event %d of namespace %s: dropped %s/%s, want none", i, namespace, dropped.about.Namespace, dropped.about.Name)
		}
	}
}

// order pops all Events and returns them as "namespace/name".
func order(l *lane) (popped []string) {
	for event, ok := l.pop(); ok; event, ok = l.pop() {
		popped = append(popped, event.about.Namespace+"/"+event.about.Name)
	}
	return popped
}

func TestLane_TakesTurnsBetweenNamespaces(t *testing.T) {
	l := newLane()
	fill(t, l, "flood", 4)
	fill(t, l, "b", 1)
	fill(t, l, "c", 2)
	want := []string{"flood/0", "b/0", "c/0", "flood/1", "c/1", "flood/2", "flood/3"}
	if got := order(l); !slices.Equal(got, want) {
		t.Errorf("got the order %v, want %v", got, want)
	}
	fill(t, l, "b", 2) // an empty lane is used again
	if got := order(l); !slices.Equal(got, []string{"b/0", "b/1"}) {
		t.Errorf("got the order %v after the lane was empty", got)
	}
}

func TestLane_DropsOfTheNamespaceThatFillsIt(t *testing.T) {
	t.Run("its queue is full", func(t *testing.T) {
		l := newLane()
		fill(t, l, "flood", maxPendingPerNamespace)
		if dropped := l.push(pending("flood", "more")); dropped == nil || dropped.about.Name != "more" {
			t.Errorf("dropped %v, want the Event that came last", dropped)
		}
		fill(t, l, "other", 1)
	})

	t.Run("the lane is full", func(t *testing.T) {
		l := newLane()
		fill(t, l, "quiet", 1)
		for i := range maxPending / maxPendingPerNamespace {
			fill(t, l, fmt.Sprint("flood-", i), maxPendingPerNamespace-1)
		}
		for l.size < maxPending {
			fill(t, l, "flood-last", 1)
		}
		newest := fmt.Sprint(maxPendingPerNamespace - 2)
		dropped := l.push(pending("quiet", "important"))
		if dropped == nil || dropped.about.Namespace == "quiet" || dropped.about.Name != newest {
			t.Fatalf("dropped %v, want the newest Event of a namespace with the most Events", dropped)
		}
		if l.size != maxPending {
			t.Errorf("%d Events wait, want %d", l.size, maxPending)
		}
		if got := order(l); !slices.Contains(got, "quiet/important") || len(got) != maxPending {
			t.Errorf("%d Events were popped, want %d with quiet/important", len(got), maxPending)
		}
	})

	t.Run("no queue is longer", func(t *testing.T) {
		l := newLane()
		for i := range maxPending {
			fill(t, l, fmt.Sprint("ns-", i), 1)
		}
		if dropped := l.push(pending("ns-0", "second")); dropped == nil || dropped.about.Name != "second" {
			t.Errorf("dropped %v, want the Event that came last", dropped)
		}
	})
}
