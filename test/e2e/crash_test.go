// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

const manyTasks = 500

func TestController_FinishesAfterKill(t *testing.T) {
	e := startController(t)
	ns := e.namespaceLabelled(nil)
	e.createMany(ns, manyTasks)
	e.labelNamespace(ns, "true")
	e.waitPartlySigned(ns)
	e.check(e.controller.Kill(t.Context()))
	if err := e.checkAllSigned(ns, manyTasks); err == nil {
		t.Fatal("the controller signed everything before it was killed: increase manyTasks")
	} else if errors.Is(err, errInvalid) {
		t.Error(err)
	}
	e.check(e.controller.Start(t.Context()))
	e.waitAllSigned(ns, manyTasks)
}

func TestController_FinishesAfterAPIServerRestart(t *testing.T) {
	e := startController(t)
	ns := e.namespaceLabelled(nil)
	e.createMany(ns, manyTasks)
	e.labelNamespace(ns, "true")
	e.waitPartlySigned(ns)
	e.check(cluster.Control(t.Context(), "kill", harness.PartAPIServer))
	e.check(cluster.Control(t.Context(), "start", harness.PartAPIServer))
	e.waitAllSigned(ns, manyTasks)
}

// waitPartlySigned waits until a tenth of manyTasks is signed.
func (e *env) waitPartlySigned(namespace string) {
	e.t.Helper()
	watcher, err := cluster.Tekton.TektonV1().Tasks(namespace).Watch(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	defer watcher.Stop()
	signed := 0
	for change := range watcher.ResultChan() {
		if obj, ok := change.Object.(metav1.Object); ok && signature(obj) != "" {
			signed++
		}
		if signed == manyTasks/10 {
			return
		}
	}
	e.t.Fatalf("the watch ended after %d of %d signatures", signed, manyTasks/10)
}

func TestReplicas_TakeOverFromKilledLeader(t *testing.T) {
	e := newEnv(t)
	ns := e.namespaceLabelled(nil)
	first := e.addReplica("replica-1")
	e.labelNamespace(ns, "true")
	e.createTask(newTask(ns, "probe"))
	e.waitSigned(ns, "probe") // so the first replica leads
	e.labelNamespace(ns, "")
	second := e.addReplica("replica-2")
	e.createMany(ns, manyTasks)
	e.labelNamespace(ns, "true")
	e.waitPartlySigned(ns)
	if n := e.countSignatures(second); n != 0 {
		t.Errorf("the replica that does not lead made %d signatures, want 0", n)
	}
	e.check(first.Kill(t.Context()))
	before := e.countSignatures(first)
	e.waitAllSigned(ns, manyTasks+1)
	if after := e.countSignatures(second); before == 0 || after == 0 {
		t.Errorf("the first replica made %d signatures, the second %d; want some by each", before, after)
	}
	for name, n := range e.auditedWrites(ns) {
		if n != 1 {
			t.Errorf("%s was written %d times, want once", name, n)
		}
	}
}

func (e *env) countSignatures(controller *harness.Controller) int {
	e.t.Helper()
	log, err := controller.Log()
	e.check(err)
	return countLines(log, fmt.Sprintf("%q:%q", "msg", "Resource signed"))
}
