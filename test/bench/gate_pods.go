// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// podTracker records when watches deliver held Pods, the TaskRuns that name them, and
// their release. The keys are names of Pods.
type podTracker struct {
	mu                       sync.Mutex
	held, recorded, released map[string]time.Time
	ended                    error // why a watch ended
}

// trackPods watches the Pods and TaskRuns of a namespace until the context ends.
func (b *bench) trackPods(ctx context.Context, namespace string) (*podTracker, error) {
	pods, err := b.cluster.Kube.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	taskRuns, err := b.cluster.Tekton.TektonV1().TaskRuns(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		pods.Stop()
		return nil, err
	}
	p := &podTracker{}
	p.reset()
	go p.follow(pods)
	go p.follow(taskRuns)
	return p, nil
}

func (p *podTracker) follow(watcher watch.Interface) {
	defer watcher.Stop()
	for change := range watcher.ResultChan() {
		switch object := change.Object.(type) {
		case *corev1.Pod:
			p.saw(object)
		case *v1.TaskRun:
			p.sawRecord(object.Status.PodName)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = errors.New("a watch ended")
}

// reset forgets all Pods.
func (p *podTracker) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.recorded, p.released = map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}
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

func (p *podTracker) sawRecord(pod string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, seen := p.recorded[pod]; !seen && pod != "" {
		p.recorded[pod] = time.Now()
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

// waits returns how long each Pod was held, and how long since its TaskRun named it.
func (p *podTracker) waits() (held, recorded []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, released := range p.released {
		held = append(held, released.Sub(p.held[name]))
		recorded = append(recorded, max(0, released.Sub(p.recorded[name]))) // the two watches have no common order
	}
	return held, recorded
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
