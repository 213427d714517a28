// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSigning_BacklogDoesNotDelayOtherNamespaces(t *testing.T) {
	e := startController(t)
	busy, quiet := e.startBacklog(), e.namespace()
	e.createTask(newTask(quiet, "new"))
	e.waitSigned(quiet, "new")
	e.expectBacklog(busy)
	e.waitAllSigned(busy, manyTasks)
}

func TestSigning_BacklogDoesNotDelayNewTasks(t *testing.T) {
	e := startController(t)
	busy := e.startBacklog()
	e.createTask(newTask(busy, "new"))
	e.waitSigned(busy, "new")
	e.expectBacklog(busy)
	e.waitAllSigned(busy, manyTasks+1)
}

func TestSigning_BacklogAtStartDoesNotDelayNewTasks(t *testing.T) {
	e := newEnv(t)
	busy := e.namespace()
	e.createMany(busy, manyTasks)
	// Without leases, the process begins with the first Task that it reads.
	e.controller = e.addReplicaWithEnv(inStatefulSet(0), "controller")
	e.waitPartlySigned(busy)
	e.createTask(newTask(busy, "new"))
	e.waitSigned(busy, "new")
	e.expectBacklog(busy)
	e.waitAllSigned(busy, manyTasks+1)
}

// startBacklog opts in a namespace with manyTasks and returns it when some are signed.
func (e *env) startBacklog() (namespace string) {
	e.t.Helper()
	namespace = e.namespaceLabelled(nil)
	e.createMany(namespace, manyTasks)
	e.labelNamespace(namespace, "true")
	e.waitPartlySigned(namespace)
	return namespace
}

// expectBacklog fails the test if most Tasks of the backlog are signed.
func (e *env) expectBacklog(namespace string) {
	e.t.Helper()
	list, err := cluster.Tekton.TektonV1().Tasks(namespace).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	signed := 0
	for i := range list.Items {
		if signature(&list.Items[i]) != "" {
			signed++
		}
	}
	if signed > manyTasks/2 {
		e.t.Errorf("%d of %d Tasks of the backlog were signed before the new Task", signed, manyTasks)
	}
}
