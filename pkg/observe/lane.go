// SPDX-License-Identifier: Apache-2.0

package observe

import "sync"

// The bounds of a lane, in Events of about 300 bytes.
const (
	maxPending             = 50_000
	maxPendingPerNamespace = 10_000
)

// lane holds the Events that wait to be posted. Each namespace has a queue of its
// own, and the queues take turns, so that a namespace with many Events does not
// delay the Events of other namespaces. Events of one namespace stay in order.
type lane struct {
	mu     sync.Mutex
	queues map[string][]pendingEvent // by namespace; no queue is empty
	turns  []string                  // the namespaces with a queue, the next one first
	size   int                       // of all queues
	// arrived has a value when the lane may have become non-empty.
	arrived chan struct{}
}

func newLane() *lane {
	return &lane{queues: map[string][]pendingEvent{}, arrived: make(chan struct{}, 1)}
}

// push adds an Event. If the queue of its namespace is full, push drops the Event.
// If the lane is full, push drops an Event of the longest queue: the namespace
// with the most Events has filled the lane. push returns the dropped Event, or
// nil.
func (l *lane) push(event pendingEvent) (dropped *pendingEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	namespace := event.about.Namespace
	if len(l.queues[namespace]) >= maxPendingPerNamespace {
		return &event
	}
	if l.size >= maxPending {
		longest := l.longest()
		if len(l.queues[longest]) <= len(l.queues[namespace]) {
			return &event
		}
		dropped = l.dropNewest(longest)
	}
	if len(l.queues[namespace]) == 0 {
		l.turns = append(l.turns, namespace)
	}
	l.queues[namespace] = append(l.queues[namespace], event)
	l.size++
	select {
	case l.arrived <- struct{}{}:
	default:
	}
	return dropped
}

// longest returns the namespace with the most Events.
func (l *lane) longest() (namespace string) {
	for candidate, queue := range l.queues {
		if len(queue) > len(l.queues[namespace]) {
			namespace = candidate
		}
	}
	return namespace
}

// dropNewest removes the newest Event of a queue with several Events, so that the
// queue keeps its turn.
func (l *lane) dropNewest(namespace string) *pendingEvent {
	queue := l.queues[namespace]
	last := len(queue) - 1
	newest := queue[last]
	queue[last] = pendingEvent{}
	l.queues[namespace] = queue[:last]
	l.size--
	return &newest
}

// pop removes the oldest Event of the namespace whose turn it is.
func (l *lane) pop() (event pendingEvent, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.turns) == 0 {
		return pendingEvent{}, false
	}
	namespace := l.turns[0]
	l.turns = l.turns[1:]
	queue := l.queues[namespace]
	event, queue[0] = queue[0], pendingEvent{}
	if queue = queue[1:]; len(queue) == 0 {
		delete(l.queues, namespace)
	} else {
		l.queues[namespace] = queue
		l.turns = append(l.turns, namespace)
	}
	l.size--
	return event, true
}
