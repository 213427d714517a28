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

// auditedWrites counts, from the API server's audit log, the successful writes of the
// controller's service account in a namespace, by name of the resource.
func (e *env) auditedWrites(namespace string) map[string]int {
	e.t.Helper()
	log, err := os.Open(cluster.AuditLog())
	e.check(err)
	defer func() { _ = log.Close() }() // only read
	counts := map[string]int{}
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return counts // the end, or a line that is being written
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

// One write for each signature, whatever the controller was told in between.
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
	e.configure(with(signAll, map[string]string{"trustedresources.namespaces": "all"})) // everything is looked at again
	e.createTask(newTask(ns, "last"))
	e.waitSigned(ns, "last")
	writes := e.auditedWrites(ns)
	if len(writes) != count+1 {
		t.Errorf("the audit log knows %d resources, want %d", len(writes), count+1)
	}
	for name, n := range writes {
		if n != 1 {
			t.Errorf("%s was written %d times", name, n)
		}
	}
}
