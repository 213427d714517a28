// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// finishedPods is the memory of a controller with a number of Pods in the cluster that
// have the label of TaskRuns and have finished.
type finishedPods struct {
	Count  int       `json:"count"`
	Memory footprint `json:"memory"`
}

// measureFinished measures without Pods, and with all of them. The namespace asks for
// the gate, so that the controller watches Pods.
func (b *bench) measureFinished(ctx context.Context, o options) (results []finishedPods, err error) {
	namespace, err := b.createTasks(ctx, map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce}, 0)
	if err != nil {
		return nil, err
	}
	for _, count := range []int{0, o.finished} {
		if err := b.finishPods(ctx, namespace, count); err != nil {
			return nil, err
		}
		err := b.withController(ctx, o.concurrency, func(controller *harness.Controller) error {
			part, err := b.cluster.Part(ctx, controller.Name)
			if err != nil {
				return err
			}
			if _, err := waitIdle(ctx, part.PID); err != nil {
				return err
			}
			found, err := readFootprint(part.PID)
			results = append(results, finishedPods{count, found})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return results, nil
}

// finishPods creates Pods on a node and marks them as finished.
func (b *bench) finishPods(ctx context.Context, namespace string, count int) error {
	b.log.Printf("%s: creating %d finished Pods", namespace, count)
	pods := b.cluster.Kube.CoreV1().Pods(namespace)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(creators)
	for i := range count {
		group.Go(func() error {
			pod, err := pods.Create(ctx, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("finished-%d", i), Labels: map[string]string{pipeline.TaskRunLabelKey: "any"}},
				Spec: corev1.PodSpec{
					NodeName:   "elsewhere", // no kubelet plays it
					Containers: []corev1.Container{{Name: "step-any", Image: "alpine", Args: []string{script}}},
				},
			}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			pod.Status.Phase = corev1.PodSucceeded
			_, err = pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{})
			return err
		})
	}
	return group.Wait()
}

func (t *tables) gate(g *gate) {
	t.line("\nGate: from the creation of a Pod to its release, and from the record of the Pod in the TaskRun to its release")
	t.row("TaskRuns per second", "TaskRuns", "p50", "p99", "max", "p50 from record", "p99", "max")
	for _, a := range g.Added {
		t.row(a.PerSecond, a.Held.Count, a.Held.P50, a.Held.P99, a.Held.Max, a.Recorded.P50, a.Recorded.P99, a.Recorded.Max)
	}
	t.line("\nGate: a controller starts while Pods wait; from the first release to the last")
	t.row("Pods", "decisions per second", "CPU of the controller per decision")
	t.row(g.Waiting.Count, fixed(g.Waiting.PerSecond, 0), g.Waiting.CPU)
	t.line("\nGate: memory of an idle controller, resident / anonymous part of it / peak since the process started")
	t.row("finished Pods of TaskRuns", "memory")
	for _, f := range g.Finished {
		t.row(f.Count, f.Memory)
	}
}
