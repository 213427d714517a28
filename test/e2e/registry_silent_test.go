// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"net/http"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// A registry that accepts requests and never responds delays attestations by seconds,
// however many unsigned resources are behind the runs. When the registry responds
// again, the attestations have verdicts again.
func TestAttestation_DoesNotWaitForSilentRegistry(t *testing.T) {
	e := newEnv(t)
	proxy, err := harness.StartProxy(t.Context(), e.startRegistry().Host())
	e.check(err)
	e.cleanup(proxy.Stop)
	proxy.Set(func(*http.Request) harness.Fault { return harness.Hang() })
	settings := maps.Clone(withProvenance)
	maps.Copy(settings, storingSettings(proxy.Host(), "oci"))
	e.configure(settings)
	e.controller = e.addReplica("controller")
	m := newMatrix(e)

	// As many runs as a controller has workers for TaskRuns, each with 20 unsigned
	// StepActions and an unsigned Task.
	const runs, steps = 8, 20
	ns, other := m.namespaceLabelled(nil), m.namespaceLabelled(nil)
	m.createPolicies(ns, trusted)
	m.createPolicies(other, trusted)
	task := newTask(ns, "steps", buildsImage)
	task.Spec.Steps = nil
	want := append(make([]string, 0, 1+steps), "Task steps SKIPPED SignatureUnavailable")
	for i := range steps {
		name := fmt.Sprintf("action-%d", i)
		m.createStepAction(ns, name, false)
		task.Spec.Steps = append(task.Spec.Steps, v1.Step{
			Name: name, Ref: &v1.Ref{Name: name}, Params: v1.Params{{Name: "greeting", Value: *v1.NewStructuredValues("hello")}},
		})
		want = append(want, "StepAction "+name+" SKIPPED SignatureUnavailable")
	}
	m.createTask(task)
	m.createTask(newTask(other, "build", buildsImage))
	for i := range runs {
		m.createTaskRun(ns, fmt.Sprintf("run-%d", i), &v1.TaskRef{Name: "steps"})
	}
	m.createTaskRun(other, "run", &v1.TaskRef{Name: "build"})
	// Until the last run has ended and the first searches have failed.
	within := harness.TimeLimit(45 * time.Second)
	start := time.Now()
	m.expectVerifications(m.waitAttestation(other, "run", false, within), "Task build SKIPPED SignatureUnavailable")
	for i := range runs {
		m.expectVerifications(m.waitAttestation(ns, fmt.Sprintf("run-%d", i), false, within-time.Since(start)), want...)
	}
	t.Logf("all runs have an attestation %v after the last was created", time.Since(start))
	m.createTaskRun(other, "at-once", &v1.TaskRef{Name: "build"})
	m.expectVerifications(m.waitAttestation(other, "at-once", false, soon), "Task build SKIPPED SignatureUnavailable")
	m.waitLogged(m.controller, "Resource not verified", "SignatureUnavailable", proxy.Host(), "did not respond", "tried again after")

	proxy.Set(nil)
	m.createTaskRun(other, "later", &v1.TaskRef{Name: "build"}, lastingFor(20*time.Second)) // longer than no request is sent
	m.expectVerifications(m.waitAttestation(other, "later", false, runEnds), "Task build FAILED Unsigned")
}
