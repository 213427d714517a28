// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// tracker reports when each Task of a namespace, or of metav1.NamespaceAll without
// v1alpha1.CanaryNamespace, first arrives with an annotation on a watch. The time is
// taken after the watch event is decoded.
type tracker struct {
	first chan time.Time // buffered; receives the time of the first Task of all

	mu    sync.Mutex
	names map[string]chan time.Time // buffered; by name of the Task

	ended chan struct{} // closed when the watch has ended; err is the reason
	err   error
}

// track watches the signatures of the Tasks of a namespace from now on, until ctx ends.
func (b *bench) track(ctx context.Context, namespace string) (*tracker, error) {
	tasks := b.cluster.Tekton.TektonV1().Tasks(namespace)
	now, err := tasks.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	t := &tracker{first: make(chan time.Time, 1), names: map[string]chan time.Time{}, ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		t.err = follow(ctx, now.ResourceVersion, tasks.Watch, func(change watch.Event) bool {
			obj, ok := change.Object.(metav1.Object)
			if ok && change.Type != watch.Deleted && obj.GetNamespace() != v1alpha1.CanaryNamespace &&
				obj.GetAnnotations()[trustedresources.SignatureAnnotation] != "" {
				t.arrived(obj.GetName(), time.Now())
			}
			return true
		})
	}()
	return t, nil
}

// follow calls handle for every change after a resourceVersion, until handle
// returns false. It opens the watch again when the API server closes it.
func follow(ctx context.Context, resourceVersion string, open cache.WatchFuncWithContext, handle func(watch.Event) bool) error {
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, resourceVersion, &cache.ListWatch{WatchFuncWithContext: open})
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for change := range watcher.ResultChan() {
		if change.Type == watch.Error {
			return fmt.Errorf("the watch failed: %v", change.Object)
		}
		if !handle(change) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.New("the watch ended")
}

// channel returns the channel for one Task.
func (t *tracker) channel(name string) chan time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names[name] == nil {
		t.names[name] = make(chan time.Time, 1)
	}
	return t.names[name]
}

func (t *tracker) arrived(name string, at time.Time) {
	for _, c := range []chan time.Time{t.channel(name), t.first} {
		select {
		case c <- at:
		default: // not the first arrival
		}
	}
}

func (t *tracker) wait(ctx context.Context, task string, c <-chan time.Time) (time.Time, error) {
	select {
	case at := <-c:
		return at, nil
	case <-t.ended:
		return time.Time{}, fmt.Errorf("waiting for the annotation of %s: %w", task, t.err)
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("waiting for the annotation of %s: %w", task, context.Cause(ctx))
	}
}

// waitFirst waits for the first Task of all and returns the time of its arrival.
// It can be called once.
func (t *tracker) waitFirst(ctx context.Context) (time.Time, error) {
	return t.wait(ctx, "any Task", t.first)
}

// waitTask waits for one Task and returns the time of its arrival. It can be
// called once for each name.
func (t *tracker) waitTask(ctx context.Context, name string) (time.Time, error) {
	return t.wait(ctx, name, t.channel(name))
}

// waitAll waits for count Tasks of createTasks and returns the time of the last
// arrival.
func (t *tracker) waitAll(ctx context.Context, count int) (last time.Time, err error) {
	for i := range count {
		at, err := t.waitTask(ctx, taskName(i))
		if err != nil {
			return last, err
		}
		if at.After(last) {
			last = at
		}
	}
	return last, nil
}
