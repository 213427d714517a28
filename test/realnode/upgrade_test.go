// SPDX-License-Identifier: Apache-2.0

//go:build realnode

package realnode

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// writesPerSecond is the load during an upgrade.
const writesPerSecond = 5

// A rolling upgrade replaces all Pods while Tasks are created and changed. Afterwards each
// Task has a signature of its last state.
func TestUpgrade_LeavesNothingUnsigned(t *testing.T) {
	e := install(t)
	ns := e.namespace()
	before := nodesOf(e.pods())
	load := e.startLoad(ns)
	e.kubectl("-n", "tekton-chains", "rollout", "restart", "deployment", deployment)
	e.kubectl("-n", "tekton-chains", "rollout", "status", "deployment", deployment, "--timeout", "180s")
	names := load.stop()
	for pod := range nodesOf(e.pods()) {
		if _, old := before[pod]; old {
			t.Errorf("Pod %s was not replaced", pod)
		}
	}
	started := time.Now()
	for _, name := range names {
		e.waitSigned(ns, name, time.Minute)
	}
	t.Logf("%d writes of %d Tasks; all were signed %.1f s after the upgrade", load.writes, len(names), time.Since(started).Seconds())
}

// load creates and changes Tasks.
type load struct {
	e      env
	cancel context.CancelFunc
	done   chan error
	names  []string
	writes int
}

// startLoad writes at a constant rate until stop: it creates a Task, and then changes it.
func (e env) startLoad(namespace string) *load {
	ctx, cancel := context.WithCancel(e.t.Context())
	l := &load{e: e, cancel: cancel, done: make(chan error, 1)}
	go func() { l.done <- l.write(ctx, namespace) }()
	return l
}

func (l *load) write(ctx context.Context, namespace string) error {
	ticker := time.NewTicker(time.Second / writesPerSecond)
	defer ticker.Stop()
	tasks := cluster.Tekton.TektonV1().Tasks(namespace)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		var err error
		if l.writes%2 == 0 {
			name := fmt.Sprintf("task-%d", len(l.names))
			l.names = append(l.names, name)
			_, err = tasks.Create(ctx, task(namespace, name, "true"), metav1.CreateOptions{})
		} else {
			patch := fmt.Sprintf(`{"spec":{"description":"write %d"}}`, l.writes)
			_, err = tasks.Patch(ctx, l.names[len(l.names)-1], types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		l.writes++
	}
}

// stop ends the load and returns the names of the Tasks.
func (l *load) stop() []string {
	l.e.t.Helper()
	l.cancel()
	l.e.check(<-l.done)
	if l.writes < 5*writesPerSecond {
		l.e.t.Errorf("only %d writes happened during the upgrade", l.writes)
	}
	return l.names
}
