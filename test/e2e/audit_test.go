// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// auditedWrites counts the successful writes of the controller's service account in a
// namespace, by name of the resource. It reads the API server's audit log.
func (e *env) auditedWrites(namespace string) map[string]int {
	e.t.Helper()
	log, err := os.Open(cluster.AuditLog())
	e.check(err)
	defer func() { _ = log.Close() }() // the file was only read
	counts := map[string]int{}
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return counts // the end of the log, or an incomplete last line
		}
		var entry auditv1.Event
		e.check(json.Unmarshal(line, &entry))
		if entry.Stage == auditv1.StageResponseComplete && entry.ObjectRef != nil && entry.ObjectRef.Namespace == namespace &&
			entry.User.Username == "system:serviceaccount:"+harness.SystemNamespace+":"+harness.ServiceAccount &&
			entry.ResponseStatus != nil && entry.ResponseStatus.Code == http.StatusOK {
			counts[entry.ObjectRef.Name]++
		}
	}
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
