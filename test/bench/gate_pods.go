// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// podTracker records when a watch delivers held Pods, and when they are released.
type podTracker struct {
	mu       sync.Mutex
	held     map[string]time.Time
	released map[string]time.Time
	ended    error // why the watch ended
}

// trackPods watches the Pods of a namespace until the context ends.
func (b *bench) trackPods(ctx context.Context, namespace string) (*podTracker, error) {
	watcher, err := b.cluster.Kube.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	p := &podTracker{}
	p.reset()
	go func() {
		defer watcher.Stop()
		for change := range watcher.ResultChan() {
			if pod, ok := change.Object.(*corev1.Pod); ok {
				p.saw(pod)
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended = fmt.Errorf("the watch of Pods of namespace %s ended", namespace)
	}()
	return p, nil
}

// reset forgets all Pods.
func (p *podTracker) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.released = map[string]time.Time{}, map[string]time.Time{}
}

func (p *podTracker) saw(pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, wasHeld := p.held[pod.Name]
	_, wasReleased := p.released[pod.Name]
	switch isHeld := harness.IsHeld(pod); {
	case isHeld && !wasHeld:
		p.held[pod.Name] = time.Now()
	case !isHeld && wasHeld && !wasReleased:
		p.released[pod.Name] = time.Now()
	}
}

// wait waits until so many Pods are released.
func (p *podTracker) wait(ctx context.Context, count int) error {
	return p.poll(ctx, "released", count, func() int { return len(p.released) })
}

// waitHeld waits until so many Pods are held.
func (p *podTracker) waitHeld(ctx context.Context, count int) error {
	return p.poll(ctx, "held", count, func() int { return len(p.held) })
}

func (p *podTracker) poll(ctx context.Context, what string, want int, number func() int) error {
	last := 0
	err := wait.PollUntilContextTimeout(ctx, harness.PollInterval, deletionTimeout, true, func(context.Context) (bool, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		last = number()
		return last >= want, p.ended
	})
	if err != nil {
		return fmt.Errorf("%d Pods are %s, expected %d: %w", last, what, want, err)
	}
	return nil
}

// waits returns how long each Pod was held.
func (p *podTracker) waits() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	waits := make([]time.Duration, 0, len(p.released))
	for name, released := range p.released {
		waits = append(waits, released.Sub(p.held[name]))
	}
	return waits
}

// span returns the times of the first release and of the last.
func (p *podTracker) span() (first, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, released := range p.released {
		if first.IsZero() || released.Before(first) {
			first = released
		}
		if released.After(last) {
			last = released
		}
	}
	return first, last
}
