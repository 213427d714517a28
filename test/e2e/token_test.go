// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// A token in the ConfigMap is refused, and neither this project nor Chains logs it: not at
// the start, not later, not when Chains cannot reach the KMS, not at level debug.
func TestConfig_RefusesTokenOfKMSAndNeverLogsIt(t *testing.T) {
	const leaked = "hvs.s3cr3t-of-the-test"
	withToken := map[string]string{
		"artifacts.taskrun.signer": "kms", "artifacts.oci.signer": "none",
		"signers.kms.kmsref":       "hashivault://key",
		"signers.kms.auth.address": "http://127.0.0.1:9", // nothing listens there
		"signers.kms.auth.token":   leaked,
	}
	e := newEnv(t)
	e.logDebug()
	e.configure(withToken)
	e.controller = e.addReplica("controller")
	refused := func() {
		t.Helper()
		cm, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
		e.check(err)
		e.waitEvent(cm, v1alpha1.ReasonConfigRefused, "signers.kms.auth.token-path")
	}
	refused()
	ns := e.namespace()
	e.createTask(newTask(ns, "build", buildsImage))
	run := e.runTask(ns, "build")
	e.waitEvent(run, v1alpha1.ReasonRunNotSigned, "hashivault://key")

	e.configure(withoutRegistry)
	e.waitSigned(ns, "build")
	e.waitAttested(ns, run.Name)
	e.configure(with(withToken, signAll))
	e.waitLogged(e.controller, "Configuration refused", "signers.kms.auth.token-path")
	e.createTask(newTask(ns, "later"))
	e.waitSigned(ns, "later") // with the last good configuration

	log, err := e.controller.Log()
	e.check(err)
	if !strings.Contains(log, "config was added or updated") {
		t.Error("the log has no line about the configuration of Chains: the test would not notice the token")
	}
	if strings.Contains(log, leaked) {
		t.Error("the log contains the token")
	}
	for _, namespace := range []string{ns, harness.SystemNamespace} {
		events, err := cluster.Kube.CoreV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
		e.check(err)
		for _, event := range events.Items {
			if strings.Contains(event.Message, leaked) {
				t.Errorf("Event %s contains the token", event.Name)
			}
		}
	}
}

// logDebug makes the controllers that start from now on log at level debug, until the test
// ends.
func (e *env) logDebug() {
	e.t.Helper()
	set := func(level string) error {
		_, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Patch(cleanupContext(), "config-logging", types.MergePatchType,
			[]byte(`{"data":{"loglevel.watcher":"`+level+`"}}`), metav1.PatchOptions{})
		return err
	}
	e.check(set("debug"))
	e.cleanup(func() error { return set("info") })
}
