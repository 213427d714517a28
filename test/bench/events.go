// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// events describes the Events with the reason Signed.
type events struct {
	// Resources is the number of Tasks that have such an Event.
	Resources int `json:"resources"`
	// LastAfter is from the arrival of the last signature to the arrival of the
	// last Event. It is 0 if all Events exist when the last signature arrives.
	LastAfter seconds `json:"lastAfterSeconds"`
}

const (
	eventsTimeout = 10 * time.Minute
	// eventsQuiet is how long waitEvents waits for the next Event. The controller
	// posts several Events per second while Events wait in its queue.
	eventsQuiet = 20 * time.Second
)

// errSettled means that waitEvents has waited long enough.
var errSettled = errors.New("no new Event arrives")

// waitEvents waits until each Task has an Event, or no new Event arrives for
// eventsQuiet. It is called after the last signature, because reading Events
// takes CPU time from the controller.
func (b *bench) waitEvents(ctx context.Context, namespace string, count int, lastSignature time.Time) (events, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := time.AfterFunc(eventsTimeout, func() { cancel(errSettled) })
	defer deadline.Stop()
	quiet := time.AfterFunc(eventsQuiet, func() { cancel(errSettled) })
	defer quiet.Stop()

	client := b.cluster.Kube.CoreV1().Events(namespace)
	selected := metav1.ListOptions{FieldSelector: "reason=" + v1alpha1.ReasonSigned}
	list, err := client.List(ctx, selected)
	if err != nil {
		return events{}, err
	}
	found := sets.New[types.UID]()
	for _, event := range list.Items {
		found.Insert(event.InvolvedObject.UID)
	}
	result := events{Resources: found.Len()}
	if found.Len() == count {
		return result, nil
	}
	open := func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		options.FieldSelector = selected.FieldSelector
		return client.Watch(ctx, options)
	}
	err = follow(ctx, list.ResourceVersion, open, func(change watch.Event) bool {
		event, ok := change.Object.(*corev1.Event)
		if ok && !found.Has(event.InvolvedObject.UID) {
			found.Insert(event.InvolvedObject.UID)
			result.Resources, result.LastAfter = found.Len(), inSeconds(time.Since(lastSignature))
			quiet.Reset(eventsQuiet)
		}
		return found.Len() < count
	})
	if errors.Is(err, errSettled) {
		err = nil
	}
	return result, err
}
