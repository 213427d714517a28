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

// events are those that tell of a signature.
type events struct {
	// Resources is how many Tasks there is such an Event of.
	Resources int `json:"resources"`
	// LastAfter is from the arrival of the last signature to that of the last
	// Event, 0 when all Events were there already.
	LastAfter seconds `json:"lastAfterSeconds"`
}

const (
	eventsTimeout = 10 * time.Minute
	// eventsQuiet without a new Event means that no more will come. Client-go
	// waits up to 10 seconds before it tries again to write one.
	eventsQuiet = 20 * time.Second
)

var errSettled = errors.New("no more Events")

// settleEvents waits until there is an Event for each Task, or no more come. It
// looks only after the last signature, not to disturb before.
func (b *bench) settleEvents(ctx context.Context, namespace string, count int, lastSignature time.Time) (events, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := time.AfterFunc(eventsTimeout, func() { cancel(errSettled) })
	defer deadline.Stop()
	quiet := time.AfterFunc(eventsQuiet, func() { cancel(errSettled) })
	defer quiet.Stop()

	client := b.cluster.Kube.CoreV1().Events(namespace)
	about := metav1.ListOptions{FieldSelector: "reason=" + v1alpha1.ReasonSigned}
	list, err := client.List(ctx, about)
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
		options.FieldSelector = about.FieldSelector
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
