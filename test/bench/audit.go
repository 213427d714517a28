// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
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

// countWrites counts the writes to count Tasks, named as createTasks names them, in a
// namespace or in metav1.NamespaceAll. It begins at an offset in the audit log, in bytes.
func (b *bench) countWrites(namespace string, count int, since int64) (writes, error) {
	var result writes
	total, byName := 0, map[string]int{}
	for entry, err := range b.cluster.AuditEvents(since) {
		if err != nil {
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

// byController reports whether the controller wrote a Task. The Tasks with which it finds
// out what Tekton has seen are none of those that are measured.
func byController(entry *auditv1.Event, namespace string) bool {
	return entry.Stage == auditv1.StageResponseComplete &&
		entry.ObjectRef != nil && entry.ObjectRef.Resource == "tasks" &&
		(entry.ObjectRef.Namespace == namespace || namespace == metav1.NamespaceAll) &&
		entry.ObjectRef.Namespace != v1alpha1.CanaryNamespace &&
		entry.User.Username == "system:serviceaccount:"+harness.SystemNamespace+":"+harness.ServiceAccount
}
