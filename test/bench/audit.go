// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// writes counts the writes of the controller's service account to Tasks, from
// the API server's audit log.
type writes struct {
	// PerResource is the number of successful writes (200 OK) for each Task.
	PerResource float64 `json:"perResource"`
	// NotOnce is the number of Tasks that do not have exactly one successful write.
	NotOnce int `json:"notOnce"`
	// Refused is the number of writes with another status, such as 409 Conflict.
	Refused int `json:"refused"`
}

// countWrites counts the writes to the Tasks that createTasks has created in a
// namespace.
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
			break // the end of the file, or a line that the API server is still writing
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
