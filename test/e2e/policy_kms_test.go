// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	trv1alpha1 "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// silentKMS is a KMS that never answers.
type silentKMS struct{ *harness.Silent }

func (e *env) startSilentKMS() silentKMS {
	e.t.Helper()
	server, err := harness.StartSilent(e.t.Context())
	e.check(err)
	e.cleanup(server.Stop)
	return silentKMS{server}
}

// reference names a key of the KMS. The clients of AWS take any host.
func (s silentKMS) reference() string { return s.prefix() + "alias/key" }

func (s silentKMS) prefix() string { return "awskms://" + s.Host() + "/" }

// awsEnvironment makes the client of AWS send requests without asking for credentials
// first.
var awsEnvironment = []string{
	"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true",
}

func startControllerForAWS(t *testing.T) *env {
	t.Helper()
	e := newEnv(t)
	e.controller = e.addReplicaWithEnv(awsEnvironment, "controller")
	return e
}

// hostileTenant creates a namespace with a policy that names the KMS, and Tasks whose
// signature may be of the KMS's key.
func (e *env) hostileTenant(kms silentKMS, tasks int) (created []*v1.Task) {
	e.t.Helper()
	ns := e.namespace()
	e.enforcePolicy(ns, v1alpha1.Authority{Name: "kms", Key: &v1alpha1.KeyRef{KMS: kms.reference()}})
	for i := range tasks {
		created = append(created, e.createTask(newTask(ns, fmt.Sprintf("garbage-%d", i), withGarbage)))
	}
	return created
}

// expectGarbageKept fails the test if a signature of the Tasks was replaced.
func (e *env) expectGarbageKept(tasks []*v1.Task) {
	e.t.Helper()
	for _, task := range tasks {
		if got := signature(e.getTask(task.Namespace, task.Name)); got != garbage {
			e.t.Errorf("%s/%s: the signature was replaced by %q", task.Namespace, task.Name, got)
		}
	}
}

// signingLatencies creates Tasks one after another and returns, sorted, how long each
// took to be signed.
func (e *env) signingLatencies(namespace string, count int) []time.Duration {
	e.t.Helper()
	latencies := make([]time.Duration, 0, count)
	for i := range count {
		start := time.Now()
		name := fmt.Sprintf("honest-%d", i)
		e.createTask(newTask(namespace, name))
		e.waitSigned(namespace, name)
		latencies = append(latencies, time.Since(start))
	}
	slices.Sort(latencies)
	return latencies
}

// By default no request leaves the controller for a KMS that a tenant names, and a
// signature that the KMS may have made is kept.
func TestPolicyKMS_IsNotCalledUnlessAllowed(t *testing.T) {
	e := startControllerForAWS(t)
	kms := e.startSilentKMS()
	tasks := e.hostileTenant(kms, 8)
	for _, task := range tasks {
		e.waitEvent(task, trv1alpha1.ReasonUndecided, "policy-", "trustedresources.policies.kms", kms.reference())
	}
	e.signingLatencies(e.namespace(), 1)
	if n := kms.Accepted(); n != 0 {
		t.Errorf("the KMS got %d connections, want none", n)
	}
	e.expectGarbageKept(tasks)

	// The same KMS by its prefix: the counterpart, without which the test above proves
	// nothing.
	e.configure(with(signAll, map[string]string{"trustedresources.policies.kms": kms.prefix()}))
	e.eventually(soon, func() error {
		if kms.Accepted() == 0 {
			return fmt.Errorf("%s got no connection after it was allowed", kms.Host())
		}
		return nil
	})
	e.waitEvent(tasks[0], trv1alpha1.ReasonUndecided, "no answer in time")
	e.expectGarbageKept(tasks)
}

// A KMS that hangs holds few workers, whatever the tenants that may name it do.
func TestPolicyKMS_ThatHangsDoesNotDelayOtherNamespaces(t *testing.T) {
	const (
		tenants, tasksOfTenant, honest = 4, 8, 40
		limit                          = 5 * time.Second
	)
	e := startControllerForAWS(t)
	kms := e.startSilentKMS()
	e.configure(with(signAll, map[string]string{"trustedresources.policies.kms": kms.prefix()}))
	quiet, busy := e.namespace(), e.namespace()
	e.logLatencies("with nobody else", e.signingLatencies(quiet, honest))

	tasks := make([]*v1.Task, 0, tenants*tasksOfTenant)
	for range tenants {
		tasks = append(tasks, e.hostileTenant(kms, tasksOfTenant)...)
	}
	e.eventually(soon, func() error {
		if kms.Accepted() == 0 {
			return fmt.Errorf("%s got no connection", kms.Host())
		}
		return nil
	})
	stop := e.keepChanging(tasks)
	latencies := e.signingLatencies(busy, honest)
	stop()
	e.logLatencies(fmt.Sprintf("beside %d hostile tenants", tenants), latencies)
	if slowest := latencies[len(latencies)-1]; slowest > harness.TimeLimit(limit) {
		t.Errorf("a Task of another namespace was signed after %s, want at most %s", slowest, harness.TimeLimit(limit))
	}
	e.expectGarbageKept(tasks)
}

func (e *env) logLatencies(when string, sorted []time.Duration) {
	e.t.Helper()
	e.t.Logf("%d Tasks %s were signed after: median %s, p99 %s, at most %s; the interval of the polls is %s",
		len(sorted), when, sorted[len(sorted)/2], sorted[len(sorted)*99/100], sorted[len(sorted)-1], harness.PollInterval)
}

// keepChanging changes the Tasks in turn, without a pause, until stop is called. Each
// change makes the controller decide again, without the delay of a retry.
func (e *env) keepChanging(tasks []*v1.Task) (stop func()) {
	ctx, cancel := context.WithCancel(e.t.Context())
	var changing sync.WaitGroup
	changing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			task := tasks[i%len(tasks)]
			patch := fmt.Appendf(nil, `{"spec":{"description":"change %d"}}`, i)
			_, err := cluster.Tekton.TektonV1().Tasks(task.Namespace).Patch(ctx, task.Name, types.MergePatchType, patch, metav1.PatchOptions{})
			if err != nil && ctx.Err() == nil {
				e.t.Errorf("changing %s/%s: %v", task.Namespace, task.Name, err)
				return
			}
		}
	})
	return func() {
		cancel()
		changing.Wait()
	}
}
