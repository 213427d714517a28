// SPDX-License-Identifier: Apache-2.0

//go:build matrix

package matrix

import (
	"fmt"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
	"github.com/trusted-resources/chains-extension/test/tektonreleases"
)

// resources is the number of Tasks in the cluster during an upgrade.
const resources = 100

// When Tekton is upgraded across v1.10, and back, the running controller signs all
// resources again, so that Tekton accepts them before and after.
func TestUpgradeOfTekton_SignsAllResourcesAgain(t *testing.T) {
	const older = "v1.9.2"
	e := start(t, harness.Releases{Tekton: older})
	ns := e.namespace()
	signatures := map[string]string{}
	for i := range resources {
		name := fmt.Sprintf("build-%d", i)
		e.createTask(ns, name)
		signatures[name] = ""
	}
	process := e.process()
	for _, step := range []struct{ name, upgradeTo string }{
		{"before", ""},
		{"after the upgrade", tektonreleases.Newest},
		{"after the downgrade", older},
	} {
		if step.upgradeTo != "" {
			release := step.upgradeTo
			if release == tektonreleases.Newest {
				release = ""
			}
			e.check(e.UpgradeTekton(t.Context(), release))
			e.expectRelease(step.upgradeTo)
		}
		for name, before := range signatures {
			signatures[name] = e.waitSigned(ns, name, before)
		}
		run := e.run(ns, "build-0")
		e.expectAccepted(run)
		e.expectPassed(run)
		e.tampered(ns, "tampered", func(run *v1.TaskRun) { e.expectRefused(run) })
		t.Logf("%s: Tekton accepts the %d Tasks, which the controller has signed", step.name, resources)
	}
	if now := e.process(); now != process {
		t.Errorf("the controller has process %d, want %d: it was restarted", now, process)
	}
}

// tampered runs a Task that was changed after it was signed. The namespace has no label
// meanwhile, so that the controller does not sign the change.
func (e *env) tampered(namespace, name string, expect func(*v1.TaskRun)) {
	e.t.Helper()
	e.createTask(namespace, name)
	e.waitSigned(namespace, name, "")
	e.check(e.Label(e.t.Context(), namespace, ""))
	e.createTask(namespace, "unsigned")
	e.tamper(namespace, name)
	expect(e.run(namespace, name))
	expect(e.run(namespace, "unsigned"))
	for _, task := range []string{name, "unsigned"} {
		e.check(e.Tekton.TektonV1().Tasks(namespace).Delete(e.t.Context(), task, metav1.DeleteOptions{}))
	}
	e.check(e.Label(e.t.Context(), namespace, "true"))
}

// process returns the process ID of the controller.
func (e *env) process() int {
	e.t.Helper()
	part, err := e.Part(e.t.Context(), e.controller.Name)
	e.check(err)
	return part.PID
}

func (e *env) expectRelease(release string) {
	e.t.Helper()
	info, err := e.Kube.CoreV1().ConfigMaps("tekton-pipelines").Get(e.t.Context(), "pipelines-info", metav1.GetOptions{})
	e.check(err)
	if got := info.Data["version"]; got != release {
		e.t.Errorf("Tekton reports release %q, want %q", got, release)
	}
}
