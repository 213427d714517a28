// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

const (
	ours   = "system:serviceaccount:" + harness.SystemNamespace + ":" + harness.ServiceAccount
	theirs = "somebody"
)

// auditLine is one line of the audit log, about an object named as the first Task.
func auditLine(user, resource, namespace string, status int) string {
	return fmt.Sprintf(`{"stage":"ResponseComplete","user":{"username":%q},"objectRef":{"resource":%q,"namespace":%q,"name":%q},"responseStatus":{"code":%d}}`+"\n",
		user, resource, namespace, taskName(0), status)
}

func TestCountWrites(t *testing.T) {
	before := auditLine(ours, "tasks", "a", 200)
	log := before + strings.Join([]string{
		auditLine(ours, "tasks", "a", 200),
		auditLine(ours, "tasks", "a", 409),
		auditLine(theirs, "tasks", "a", 200),
		auditLine(ours, "verificationpolicies", "a", 200),
		auditLine(ours, "tasks", "b", 200),
		auditLine(ours, "tasks", v1alpha1.CanaryNamespace, 200),
		`{"stage":"ResponseComplete"`, // not complete yet
	}, "")
	b := &bench{cluster: &harness.Cluster{Dir: t.TempDir()}}
	check(t, os.MkdirAll(filepath.Dir(b.cluster.AuditLog()), 0o755))
	check(t, os.WriteFile(b.cluster.AuditLog(), []byte(log), 0o600))
	for _, tc := range []struct {
		name, namespace string
		since           int
		want            writes
	}{
		{"whole log", "a", 0, writes{PerResource: 2, NotOnce: 1, Refused: 1}},
		{"since an offset", "a", len(before), writes{PerResource: 1, NotOnce: 0, Refused: 1}},
		{"all namespaces", metav1.NamespaceAll, len(before), writes{PerResource: 2, NotOnce: 1, Refused: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := b.countWrites(tc.namespace, 1, int64(tc.since))
			check(t, err)
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}
