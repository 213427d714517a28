// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func countLines(text, with string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

func TestNamespaceLabel_OptsInAndOut(t *testing.T) {
	e := startController(t)
	ns, other := e.namespaceLabelled(nil), e.namespace()
	e.canary = other
	// settled waits until the controller has handled all earlier changes: it signs
	// another Task.
	settled := func(name string) {
		e.createTask(newTask(other, name))
		e.waitSigned(other, name)
	}
	unsigned := func(name string) {
		t.Helper()
		if got := e.getTask(ns, name); signature(got) != "" {
			t.Errorf("Task %s is signed, want no signature", name)
		}
	}

	e.createTask(newTask(ns, "early"))
	settled("a")
	unsigned("early")

	e.labelNamespace(ns, "true")
	e.waitSigned(ns, "early")

	e.labelNamespace(ns, "false")
	e.waitOptedOut(ns)
	e.createTask(newTask(ns, "late"))
	settled("c")
	unsigned("late")

	e.labelNamespace(ns, "")
	e.configure(with(signAll, map[string]string{"trustedresources.namespaces": "all"}))
	e.waitSigned(ns, "late")

	e.labelNamespace(ns, "yes") // not a valid value
	e.waitOptedOut(ns)
	e.createTask(newTask(ns, "unknown"))
	settled("e")
	unsigned("unknown")
}

// waitOptedOut waits until new Tasks of a namespace are not signed. The controller
// gets Namespaces and Tasks from two watches, in no particular order.
func (e *env) waitOptedOut(namespace string) {
	e.t.Helper()
	probe := func(t *v1.Task) { t.GenerateName = "probe-" }
	e.eventually(soon, func() error {
		left := e.createTask(newTask(namespace, "", probe))
		e.waitSigned(e.canary, e.createTask(newTask(e.canary, "", probe)).Name)
		if signature(e.getTask(namespace, left.Name)) != "" {
			return fmt.Errorf("Task %s in the opted-out namespace %s is signed", left.Name, namespace)
		}
		return nil
	})
}

func TestConfig_KeepsLastGoodWhenNewOneIsInvalid(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.createTask(newTask(ns, "before"))
	e.waitSigned(ns, "before")
	for name, tc := range map[string]struct{ key, value, says string }{
		"unknown signer":           {"artifacts.task.signer", "pgp", `found "pgp", expected one of: none, x509, kms`},
		"unknown storage":          {"artifacts.pipeline.storage", "floppy", `found "floppy"`},
		"misspelled key":           {"artifacts.stepaction.singer", "x509", "unknown key"},
		"invalid format of Chains": {"artifacts.taskrun.format", "odd", "odd"},
	} {
		t.Run(name, func(t *testing.T) {
			e := e.sub(t)
			// If this configuration were used, the signer "none" would stop the signing.
			e.configure(map[string]string{"artifacts.task.signer": "none", tc.key: tc.value})
			cm, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
			e.check(err)
			e.waitEvent(cm, v1alpha1.ReasonConfigRefused, tc.says)
			e.waitLogged(e.controller, "Configuration refused", strings.ReplaceAll(tc.says, `"`, `\"`))
			resource := strings.ToLower(strings.ReplaceAll(name, " ", "-"))
			e.createTask(newTask(ns, resource))
			e.waitSigned(ns, resource)
		})
	}
	// A valid configuration is used again.
	e.configure(map[string]string{"artifacts.task.signer": "none"})
	e.waitLogged(e.controller, "Configuration loaded", `"signers":[]`)
	e.createTask(newTask(ns, "off"))
	e.expectNoWrites(ns, 2*time.Second)
}

func TestConfig_SignsNothingWhenInvalidAtStart(t *testing.T) {
	e := newEnv(t)
	ns := e.namespace()
	e.configure(with(signAll, map[string]string{"artifacts.task.signer": "pgp"}))
	e.createTask(newTask(ns, "waits"))
	e.controller = e.addReplica("controller")
	e.waitLogged(e.controller, "Configuration refused", "pgp")
	if got := e.getTask(ns, "waits"); signature(got) != "" {
		t.Error("the Task is signed although there is no valid configuration")
	}
	e.configure(signAll)
	e.waitSigned(ns, "waits")
}

// Older Tekton releases compute another checksum. The controller then signs nothing
// and names the release. After an upgrade of Tekton the controller signs.
func TestController_SignsNothingOnOldTekton(t *testing.T) {
	e := newEnv(t)
	ns := e.namespace()
	release := func(version string) string {
		info := cluster.Kube.CoreV1().ConfigMaps("tekton-pipelines")
		before, err := info.Get(t.Context(), "pipelines-info", metav1.GetOptions{})
		e.check(err)
		_, err = info.Patch(t.Context(), "pipelines-info", types.MergePatchType, []byte(`{"data":{"version":"`+version+`"}}`), metav1.PatchOptions{})
		e.check(err)
		return before.Data["version"]
	}
	current := release("v1.9.3")
	defer release(current)
	e.controller = e.addReplica("controller")
	created := e.createTask(newTask(ns, "waits"))
	e.waitEvent(created, v1alpha1.ReasonTektonTooOld, "v1.9.3", "v1.10.0")
	e.waitLogged(e.controller, "Nothing is signed", "v1.9.3")
	if got := e.getTask(ns, "waits"); signature(got) != "" {
		t.Error("the Task is signed although Tekton is too old")
	}
	release(current)
	e.waitSigned(ns, "waits")
}
