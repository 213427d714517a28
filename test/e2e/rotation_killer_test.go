// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"syscall"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// killer kills the leader right after a step of a rotation was seen, and starts the
// process again.
type killer struct {
	e        *env
	replicas map[string]*harness.Controller // by name

	mu       sync.Mutex
	wanted   int               // kills at each step
	leaders  map[string]string // name of the replica that leads, by work queue
	holders  map[string]string // name of the replica, by identity in Leases
	pids     map[string]int    // of the replicas that run, by name
	kills    map[moment]int
	err      error // of a restart
	restarts sync.WaitGroup
}

// Work queues of the controllers that take the steps.
const (
	rotationQueue = v1alpha1.Group + ".rotation"
	tasksQueue    = v1alpha1.Group + ".task"
)

// startKiller starts two replicas, and a killer that does nothing yet.
func (e *env) startKiller() *killer {
	e.t.Helper()
	k := &killer{
		e: e, replicas: map[string]*harness.Controller{},
		leaders: map[string]string{}, holders: map[string]string{}, pids: map[string]int{}, kills: map[moment]int{},
	}
	e.follow(leasesResource, harness.SystemNamespace, k.seeLease)
	for _, name := range []string{"one", "two"} {
		replica := e.addReplica(name)
		k.mu.Lock()
		k.replicas[name] = replica
		k.mu.Unlock()
		e.check(k.watchProcess(e.t.Context(), name))
	}
	e.t.Cleanup(k.restarts.Wait) // before the replicas are removed
	return k
}

// seeLease notes who leads. Only the log of a replica tells its identity in a Lease, before
// it holds the Lease.
func (k *killer) seeLease(object *unstructured.Unstructured) {
	lease := decode[coordinationv1.Lease](k.e, object)
	queue := strings.TrimSuffix(strings.TrimPrefix(lease.Name, "watcher."), ".00-of-01")
	identity := ptr.Deref(lease.Spec.HolderIdentity, "")
	if identity == "" || queue != rotationQueue && queue != tasksQueue {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.holders[identity]; known {
		return // also if it was killed meanwhile
	}
	for name, replica := range k.replicas {
		if log, err := replica.Log(); err == nil && strings.Contains(log, identity) {
			k.holders[identity], k.leaders[queue] = name, name
		}
	}
}

// watchProcess notes the process of a replica.
func (k *killer) watchProcess(ctx context.Context, name string) error {
	part, err := cluster.Part(ctx, name)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pids[name] = part.PID
	return err
}

// at kills the leader, unless enough were killed at this step, or the leader is gone
// already.
func (k *killer) at(step moment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := k.leaders[step.queue()]
	pid, runs := k.pids[name]
	if !runs || k.kills[step] >= k.wanted {
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		k.err = errors.Join(k.err, err)
		return
	}
	delete(k.pids, name)
	maps.DeleteFunc(k.leaders, func(_, leader string) bool { return leader == name })
	k.kills[step]++
	k.restarts.Go(func() {
		ctx := context.WithoutCancel(k.e.t.Context())
		replica := k.replicas[name]
		err := errors.Join(replica.Kill(ctx), replica.Start(ctx), k.watchProcess(ctx, name))
		k.mu.Lock()
		defer k.mu.Unlock()
		k.err = errors.Join(k.err, err)
	})
}

// arm makes the killer kill so many leaders at each step.
func (k *killer) arm(wanted int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted = wanted
}

// isDone reports whether there were enough kills at each step.
func (k *killer) isDone() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, step := range moments {
		if k.kills[step] < k.wanted {
			return false
		}
	}
	return true
}

// end waits until both replicas run again, and returns the kills at each step.
func (k *killer) end() map[moment]int {
	k.restarts.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.e.check(k.err)
	return maps.Clone(k.kills)
}

// leftOverCanaries returns the names of all objects in the namespace of canaries.
func (e *env) leftOverCanaries() (names []string) {
	e.t.Helper()
	const ns = v1alpha1.CanaryNamespace
	policies, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	tasks, err := cluster.Tekton.TektonV1().Tasks(ns).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	runs, err := cluster.Tekton.TektonV1().TaskRuns(ns).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	for _, policy := range policies.Items {
		names = append(names, "VerificationPolicy "+policy.Name)
	}
	for _, task := range tasks.Items {
		names = append(names, "Task "+task.Name)
	}
	for _, run := range runs.Items {
		names = append(names, "TaskRun "+run.Name)
	}
	return names
}
