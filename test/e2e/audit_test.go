// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/http"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// auditedWrites counts the successful writes of the controller's service account in a
// namespace, by name of the resource.
func (e *env) auditedWrites(namespace string) map[string]int {
	e.t.Helper()
	counts := map[string]int{}
	for _, event := range e.controllerWrites(namespace) {
		counts[event.ObjectRef.Name]++
	}
	return counts
}

// controllerWrites returns the successful writes of the controller's service account in a
// namespace, from the API server's audit log.
func (e *env) controllerWrites(namespace string) (writes []*auditv1.Event) {
	e.t.Helper()
	for event, err := range cluster.AuditEvents(0) {
		e.check(err)
		if event.Stage == auditv1.StageResponseComplete && event.ObjectRef != nil && event.ObjectRef.Namespace == namespace &&
			event.User.Username == "system:serviceaccount:"+harness.SystemNamespace+":"+harness.ServiceAccount &&
			event.ResponseStatus != nil && event.ResponseStatus.Code == http.StatusOK {
			writes = append(writes, event)
		}
	}
	return writes
}

// The controller writes once for each signature, even if it gets more events about the
// same resource.
func TestController_WritesEachResourceOnce(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	const count = 100
	for i := range count {
		e.createTask(newTask(ns, fmt.Sprintf("task-%d", i)))
	}
	for i := range count {
		e.waitSigned(ns, fmt.Sprintf("task-%d", i))
	}
	e.configure(with(signAll, map[string]string{"trustedresources.namespaces": "all"})) // the controller checks all resources again
	e.createTask(newTask(ns, "last"))
	e.waitSigned(ns, "last")
	writes := e.auditedWrites(ns)
	if len(writes) != count+1 {
		t.Errorf("the audit log has writes to %d resources, want %d", len(writes), count+1)
	}
	for name, n := range writes {
		if n != 1 {
			t.Errorf("%s was written %d times, want once", name, n)
		}
	}
}
