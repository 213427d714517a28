package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// tracker tells when the Tasks of a namespace were first seen with an
// annotation, through one watch. The time is that of the arrival here, decoded.
type tracker struct {
	first chan time.Time // buffered: the time of the very first

	mu    sync.Mutex
	names map[string]chan time.Time // buffered, by name of the Task

	ended chan struct{} // closed when the watch has ended, with err
	err   error
}

// track watches from now on, until ctx ends.
func (b *bench) track(ctx context.Context, namespace, annotation string) (*tracker, error) {
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
			if ok && change.Type != watch.Deleted && obj.GetAnnotations()[annotation] != "" {
				t.seen(obj.GetName(), time.Now())
			}
			return true
		})
	}()
	return t, nil
}

// follow hands every change after a resourceVersion to handle, until that
// returns false. That the API server closes a watch now and then goes unnoticed.
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

func (t *tracker) of(name string) chan time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names[name] == nil {
		t.names[name] = make(chan time.Time, 1)
	}
	return t.names[name]
}

func (t *tracker) seen(name string, at time.Time) {
	for _, c := range []chan time.Time{t.of(name), t.first} {
		select {
		case c <- at:
		default: // not the first time
		}
	}
}

func (t *tracker) wait(ctx context.Context, what string, c <-chan time.Time) (time.Time, error) {
	select {
	case at := <-c:
		return at, nil
	case <-t.ended:
		return time.Time{}, fmt.Errorf("waiting for the annotation of %s: %w", what, t.err)
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("waiting for the annotation of %s: %w", what, context.Cause(ctx))
	}
}

// waitFirst returns when the first Task of all was seen.
func (t *tracker) waitFirst(ctx context.Context) (time.Time, error) {
	return t.wait(ctx, "any Task", t.first)
}

// waitTask returns when one Task was seen. It answers once for each name.
func (t *tracker) waitTask(ctx context.Context, name string) (time.Time, error) {
	return t.wait(ctx, name, t.of(name))
}

// waitAll returns when the last of count Tasks was seen.
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
