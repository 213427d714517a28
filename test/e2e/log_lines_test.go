// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// stockLogging is the zap-logger-config of Tekton's releases. It samples.
const stockLogging = `{
  "level": "info",
  "development": false,
  "sampling": {"initial": 100, "thereafter": 100},
  "outputPaths": ["stdout"],
  "errorOutputPaths": ["stderr"],
  "encoding": "json",
  "encoderConfig": {"timeKey": "ts", "levelKey": "level", "nameKey": "logger", "callerKey": "caller", "messageKey": "msg"}
}`

// Each of many signatures at once has a log line, whatever the ConfigMap says.
func TestLog_HasOneLineForEachSignatureUnderLoad(t *testing.T) {
	const many = 1500
	for name, logging := range map[string]map[string]string{
		"stock ConfigMap":     {"zap-logger-config": stockLogging, "loglevel.watcher": "info"},
		"without a word":      {},
		"unusable ConfigMaps": {"zap-logger-config": "level: info"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.replaceConfigMap("config-logging", logging)
			ns := e.namespaceLabelled(nil)
			e.createMany(ns, many)
			e.controller = e.addReplica("controller")
			e.labelNamespace(ns, "true")
			e.waitAllSigned(ns, many)
			e.eventually(soon, func() error { // the last line can come after the last signature
				if got := e.countSignaturesIn(e.controller, ns); got < many {
					return fmt.Errorf("%d lines for %d signatures", got, many)
				}
				return nil
			})
			if got := e.countSignaturesIn(e.controller, ns); got != many {
				t.Errorf("%d lines for %d signatures", got, many)
			}
		})
	}
}

// countSignaturesIn counts the log lines about signatures of the Tasks of a namespace.
func (e *env) countSignaturesIn(controller *harness.Controller, namespace string) int {
	e.t.Helper()
	log, err := controller.Log()
	e.check(err)
	lines := 0
	for line := range strings.Lines(log) {
		if containsAll(line, []string{`"Resource signed"`, `"kind":"Task"`, fmt.Sprintf(`"namespace":%q`, namespace)}) {
			lines++
		}
	}
	return lines
}

// replaceConfigMap replaces the data of a ConfigMap of the controller until the test
// ends.
func (e *env) replaceConfigMap(name string, data map[string]string) {
	e.t.Helper()
	maps := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace)
	before, err := maps.Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	e.cleanup(func() error {
		now, err := maps.Get(cleanupContext(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Data = before.Data
		_, err = maps.Update(cleanupContext(), now, metav1.UpdateOptions{})
		return err
	})
	changed := before.DeepCopy()
	changed.Data = data
	_, err = maps.Update(e.t.Context(), changed, metav1.UpdateOptions{})
	e.check(err)
}
