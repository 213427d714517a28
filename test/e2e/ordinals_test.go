// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// electionConfig is the ConfigMap of the leader election.
const electionConfig = "tekton-chains-config-leader-election"

// inStatefulSet is the environment of a pod of a StatefulSet, as docs/install.md has it.
func inStatefulSet(ordinal int) []string {
	return []string{
		fmt.Sprintf("STATEFUL_CONTROLLER_ORDINAL=tekton-chains-controller-%d", ordinal),
		"STATEFUL_SERVICE_NAME=tekton-chains-controller",
	}
}

// With leases, buckets do not divide the work: the replica that starts first takes all of
// them (docs/reference.md).
func TestBuckets_AreAllTakenByTheFirstReplica(t *testing.T) {
	const many = 40
	e := newEnv(t)
	e.replaceConfigMap(electionConfig, map[string]string{
		"lease-duration": "15s", "renew-deadline": "10s", "retry-period": "2s", "buckets": "4",
	})
	ns := e.namespace()
	first := e.addReplica("replica-1")
	e.createTask(newTask(ns, "probe"))
	e.waitSigned(ns, "probe") // so the first replica leads
	second := e.addReplica("replica-2")
	e.createMany(ns, many)
	e.waitAllSigned(ns, many+1)
	if got := e.countSignaturesIn(first, ns); got != many+1 {
		t.Errorf("the first replica made %d of %d signatures: correct docs/reference.md", got, many+1)
	}
	if got := e.countSignaturesIn(second, ns); got != 0 {
		t.Errorf("the second replica made %d signatures: correct docs/reference.md", got)
	}
}

// The pods of a StatefulSet divide the resources and the runs. While one pod is away,
// its share waits and no other pod takes it.
func TestOrdinals_ShareTheWork(t *testing.T) {
	const many = 200
	e := newEnv(t)
	e.configure(with(signAll, withProvenance))
	e.replaceConfigMap(electionConfig, map[string]string{"buckets": "2"})
	replicas := []*harness.Controller{
		e.addReplicaWithEnv(inStatefulSet(0), "ordinal-0"),
		e.addReplicaWithEnv(inStatefulSet(1), "ordinal-1"),
	}
	m := &matrix{env: e}
	ns := e.namespace()
	e.createMany(ns, many)
	e.waitAllSigned(ns, many)
	shares := make([]int, len(replicas))
	for i, replica := range replicas {
		shares[i] = e.countSignaturesIn(replica, ns)
	}
	if shares[0]+shares[1] != many || min(shares[0], shares[1]) < many/4 {
		t.Errorf("the replicas made %v signatures, want about half of %d each", shares, many)
	}
	for name, n := range e.auditedWrites(ns) {
		if n != 1 {
			t.Errorf("%s was written %d times, want once", name, n)
		}
	}
	for i := range 6 {
		name := fmt.Sprintf("run-%d", i)
		m.createTaskRun(ns, name, &v1.TaskRef{Name: "task-0"})
		m.waitAttestation(ns, name, false, runEnds)
	}

	e.check(replicas[0].Stop(t.Context()))
	e.labelNamespace(ns, "")
	later := e.namespace()
	e.createMany(later, many)
	e.eventually(soon, func() error {
		if writes := e.countWritesDuring(later, time.Second); writes > 0 {
			return fmt.Errorf("the other replica is still at work: %d writes in a second", writes)
		}
		return nil
	})
	if writes := len(e.auditedWrites(later)); writes < many/4 || writes > many*3/4 {
		t.Errorf("one replica signed %d of %d resources, want about half", writes, many)
	}
	e.check(replicas[0].Start(t.Context()))
	e.waitAllSigned(later, many)
}

// A replica whose ordinal is outside of the buckets would fall back to leases, and do
// the work of others again. It refuses to start.
func TestOrdinals_OutsideOfBucketsAreRefused(t *testing.T) {
	e := newEnv(t)
	e.replaceConfigMap(electionConfig, map[string]string{"buckets": "2"})
	_, err := cluster.AddControllerIn(t.Context(), inStatefulSet(2), "ordinal-2", e.secretsDir)
	if err == nil {
		t.Error("the replica started")
	}
	for _, text := range []string{"ordinal-2", "controller-2", "buckets 2"} {
		if !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("got error %v, want one with %q", err, text)
		}
	}
}
