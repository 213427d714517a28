package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// writes are the successful ones (200 OK) of the controller's service account
// to Tasks, from the API server's audit log.
type writes struct {
	// PerResource is all of them over the number of Tasks.
	PerResource float64 `json:"perResource"`
	// NotOnce is how many Tasks were not written exactly once.
	NotOnce int `json:"notOnce"`
	// Refused is how many more were answered with another code, such as 409.
	Refused int `json:"refused"`
}

// countWrites expects Tasks task-00000 and so on in the namespace.
func (b *bench) countWrites(namespace string, count int) (writes, error) {
	log, err := os.Open(b.cluster.AuditLog())
	if err != nil {
		return writes{}, err
	}
	defer func() { _ = log.Close() }()
	var result writes
	total, byName := 0, map[string]int{}
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break // the end, or a line that is being written
		}
		var entry auditv1.Event
		if err := json.Unmarshal(line, &entry); err != nil {
			return writes{}, err
		}
		switch {
		case !byController(entry, namespace):
		case entry.ResponseStatus != nil && entry.ResponseStatus.Code == http.StatusOK:
			byName[entry.ObjectRef.Name]++
			total++
		default:
			result.Refused++
		}
	}
	for i := range count {
		if byName[taskName(i)] != 1 {
			result.NotOnce++
		}
	}
	result.PerResource = float64(total) / float64(count)
	return result, nil
}

func byController(entry auditv1.Event, namespace string) bool {
	return entry.Stage == auditv1.StageResponseComplete &&
		entry.ObjectRef != nil && entry.ObjectRef.Namespace == namespace &&
		entry.User.Username == "system:serviceaccount:"+harness.SystemNamespace+":"+harness.ServiceAccount
}
