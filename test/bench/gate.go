// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// gate is what the gate costs.
type gate struct {
	Added    []addedLatency `json:"addedLatency"`
	Waiting  waitingPods    `json:"waiting"`
	Finished []finishedPods `json:"finishedPods"`
}

// addedLatency is how long Pods are held, as watches see it.
type addedLatency struct {
	PerSecond int `json:"runsPerSecond"`
	// Held is from the creation of a Pod to its release. It contains the write in which
	// Tekton records the Pod in the TaskRun.
	Held latency `json:"fromCreation"`
	// Recorded is from that write to the release.
	Recorded latency `json:"fromRecord"`
}

// waitingPods is how a controller starts that finds held Pods.
type waitingPods struct {
	Count int `json:"count"`
	// PerSecond is from the first release to the last.
	PerSecond float64 `json:"decisionsPerSecond"`
	// CPU is the CPU time of the controller for each Pod, in the same time.
	CPU milliseconds `json:"cpuMillisecondsPerDecision"`
}

const (
	gateTimeout = 20 * time.Minute
	gateSeconds = 20 // of each rate
)

var gateRates = []int{3, 20}

// measureGate measures in one namespace. All TaskRuns are of one signed Task, through
// Tekton's cluster resolver.
func (b *bench) measureGate(ctx context.Context, o options) (result *gate, err error) {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	if err := b.cluster.InstallGate(ctx); err != nil {
		return nil, err
	}
	labels := map[string]string{v1alpha1.SignLabel: "true", v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce}
	namespace, err := b.createTasks(ctx, labels, 0)
	if err != nil {
		return nil, err
	}
	if err := b.cluster.Trust(ctx, namespace, b.publicKey); err != nil {
		return nil, err
	}
	pods, err := b.trackPods(ctx, namespace)
	if err != nil {
		return nil, err
	}
	result = &gate{}
	err = b.withController(ctx, o.concurrency, func(controller *harness.Controller) error {
		if err := b.prepareGate(ctx, namespace, pods); err != nil {
			return err
		}
		if err := b.measureAdded(ctx, namespace, pods, result); err != nil {
			return err
		}
		return b.measureWaiting(ctx, namespace, pods, controller, o.waiting, result)
	})
	if err == nil {
		result.Finished, err = b.measureFinished(ctx, o)
	}
	return result, err
}

// prepareGate runs one TaskRun, which waits for the leader election and the signature.
func (b *bench) prepareGate(ctx context.Context, namespace string, pods *podTracker) error {
	tasks, err := b.track(ctx, namespace)
	if err != nil {
		return err
	}
	if err := b.create(ctx, namespace, "gated"); err != nil {
		return err
	}
	if _, err := tasks.waitTask(ctx, "gated"); err != nil {
		return err
	}
	if err := b.runGated(ctx, namespace, "first"); err != nil {
		return err
	}
	return pods.wait(ctx, 1)
}

func (b *bench) runGated(ctx context.Context, namespace, name string) error {
	run := &v1.TaskRun{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.TaskRunSpec{
			TaskRef: &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, "gated")},
			Params:  v1.Params{{Name: "url", Value: *v1.NewStructuredValues("https://example.com")}},
		},
	}
	_, err := b.cluster.Tekton.TektonV1().TaskRuns(namespace).Create(ctx, run, metav1.CreateOptions{})
	return err
}

// measureAdded creates TaskRuns at each rate.
func (b *bench) measureAdded(ctx context.Context, namespace string, pods *podTracker, result *gate) error {
	for _, rate := range gateRates {
		count := rate * gateSeconds
		b.log.Printf("%s: %d TaskRuns, %d per second", namespace, count, rate)
		pods.reset()
		next := time.NewTicker(time.Second / time.Duration(rate))
		for i := range count {
			select {
			case <-ctx.Done():
				next.Stop()
				return ctx.Err()
			case <-next.C:
			}
			if err := b.runGated(ctx, namespace, fmt.Sprintf("rate-%d-%d", rate, i)); err != nil {
				next.Stop()
				return err
			}
		}
		next.Stop()
		if err := pods.wait(ctx, count); err != nil {
			return err
		}
		held, recorded := pods.waits()
		result.Added = append(result.Added, addedLatency{PerSecond: rate, Held: summarize(1, held), Recorded: summarize(1, recorded)})
	}
	return nil
}

// measureWaiting stops the controller, creates TaskRuns until so many Pods are held, and
// starts the controller.
func (b *bench) measureWaiting(
	ctx context.Context, namespace string, pods *podTracker, controller *harness.Controller, count int, result *gate,
) error {
	if err := controller.Stop(ctx); err != nil {
		return err
	}
	pods.reset()
	b.log.Printf("%s: %d TaskRuns without a controller", namespace, count)
	for i := range count {
		if err := b.runGated(ctx, namespace, fmt.Sprintf("waiting-%d", i)); err != nil {
			return err
		}
	}
	if err := pods.waitHeld(ctx, count); err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	part, err := b.cluster.Part(ctx, controller.Name)
	if err != nil {
		return err
	}
	before, err := processCPU(part.PID)
	if err != nil {
		return err
	}
	if err := pods.wait(ctx, count); err != nil {
		return err
	}
	after, err := processCPU(part.PID)
	first, last := pods.span()
	if err == nil && !last.After(first) {
		err = errors.New("no time passed between the first release and the last")
	}
	result.Waiting = waitingPods{
		Count: count, PerSecond: float64(count-1) / last.Sub(first).Seconds(), CPU: inMilliseconds((after - before) / time.Duration(count)),
	}
	return err
}
