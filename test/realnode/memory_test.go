// SPDX-License-Identifier: Apache-2.0

//go:build realnode && memory

package realnode

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tektoncd/pipeline/pkg/trustedresources"
)

const (
	manyTasks = 20_000
	writers   = 16
	// signWithin is the time limit for all signatures, after the last Task was created.
	signWithin = 10 * time.Minute
)

// The kernel does not end a controller that signs as many resources as the guide says.
func TestMemory_LimitIsNotReached(t *testing.T) {
	e := install(t)
	ns := e.namespace()
	pod := e.pod(e.leader())
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(writers)
	for i := range manyTasks {
		group.Go(func() error {
			name := fmt.Sprintf("task-%d", i)
			_, err := cluster.Tekton.TektonV1().Tasks(ns).Create(ctx, task(ns, name, "echo "+name), metav1.CreateOptions{})
			return err
		})
	}
	e.check(group.Wait())
	e.eventually(signWithin, func() error {
		unsigned := 0
		err := e.eachTask(ns, func(annotations map[string]string) {
			if annotations[trustedresources.SignatureAnnotation] == "" {
				unsigned++
			}
		})
		if err == nil && unsigned > 0 {
			err = fmt.Errorf("%d of %d Tasks are not signed", unsigned, manyTasks)
		}
		return err
	})
	now := e.pod(pod.Name)
	if status := now.Status.ContainerStatuses[0]; status.RestartCount != 0 {
		t.Errorf("the container was restarted %d times: %+v", status.RestartCount, status.LastTerminationState)
	}
	peak, limit := e.processMemory(now, "VmHWM"), pod.Spec.Containers[0].Resources.Limits.Memory().Value()
	t.Logf("%d Tasks: peak memory of the container %d MiB, limit %d MiB", manyTasks, peak>>20, limit>>20)
	if peak >= limit {
		t.Errorf("the container reached its limit of %d MiB", limit>>20)
	}
}

// eachTask calls do with the annotations of each Task, in pages.
func (e env) eachTask(namespace string, do func(map[string]string)) error {
	options := metav1.ListOptions{Limit: 1000}
	for {
		list, err := cluster.Tekton.TektonV1().Tasks(namespace).List(e.t.Context(), options)
		if err != nil {
			return err
		}
		for i := range list.Items {
			do(list.Items[i].Annotations)
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return nil
		}
	}
}
