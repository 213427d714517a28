// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// With tracing turned on in Tekton and here, the trace of a run has the steps of the
// controller, and its audit records name the trace.
func TestTraces_ShowTheStepsOfARun(t *testing.T) {
	traces := harness.StartTraces()
	t.Cleanup(traces.Stop)
	e := newEnv(t)
	e.setConfigMap(harness.SystemNamespace, harness.ConfigObservability, map[string]string{
		"tracing-protocol": "http/protobuf", "tracing-endpoint": traces.URL(), "tracing-sampling-rate": "1",
	})
	e.setConfigMap(harness.TektonNamespace, harness.ConfigTracing, map[string]string{"enabled": "true", "endpoint": traces.URL()})
	audited := &auditEnv{e, filepath.Join(t.TempDir(), "audit.log")}
	e.configure(toAuditFile(audited.path, withProvenance))
	e.controller = e.addReplica("controller")
	g := newGated(e)
	ns := g.enforced()
	g.signedTask(ns, "build")
	tampered := newTask(ns, "tampered")
	g.check(g.signer.Sign(t.Context(), tampered))
	tampered.Spec.Description = "changed after it was signed"
	g.createTask(tampered)
	g.createPipeline(ns, "pipeline", v1.PipelineTask{Name: "build", TaskRef: &v1.TaskRef{Name: "build"}})
	g.createTaskRun(ns, "refused", &v1.TaskRef{Name: "tampered"})
	g.createTaskRun(ns, "good", &v1.TaskRef{Name: "build"})
	g.expectSuccess(g.waitDone(ns, "good"))
	g.expectHeldBack(g.waitDone(ns, "refused"), "SignatureInvalid")
	g.waitAttestation(ns, "good", false, soon)
	signs := g.namespace()
	g.createTask(newTask(signs, "resource"))
	g.waitSigned(signs, "resource")

	of := func(namespace, name, kind string) map[string]string {
		return map[string]string{"namespace": namespace, "name": name, "kind": kind}
	}
	run := of(ns, "good", "TaskRun")
	verified := e.waitSpan(traces, "verify", with(run, map[string]string{"action": "release"}))
	signed := e.waitSpan(traces, "sign", run)
	attested := e.waitSpan(traces, "verify", with(run, map[string]string{"result": "PASSED"}))
	stored := e.waitSpan(traces, "store", with(run, map[string]string{"backend": "tekton"}))
	// Tekton may begin a second trace of a run, when its cache does not have the first one yet.
	for _, span := range []harness.TracedSpan{verified, signed} {
		e.waitSpan(traces, "TaskRun:Reconciler", map[string]string{"taskrun": "good"}, func(tektons harness.TracedSpan) bool {
			return tektons.Trace == span.Trace && tektons.ID == span.ParentID
		})
	}
	for _, span := range []harness.TracedSpan{attested, stored} {
		if span.Trace != signed.Trace || span.ParentID != signed.ID || span.Failed {
			t.Errorf("%+v: want no failure, below %+v", span, signed)
		}
	}
	e.waitSpan(traces, "verify", with(of(ns, "refused", "TaskRun"), map[string]string{"action": "refuse"}))
	if own := e.waitSpan(traces, "sign", with(of(signs, "resource", "Task"), map[string]string{"reason": "Unsigned"})); own.ParentID != "" {
		t.Errorf("%+v: want a trace of its own, no run has to do with it", own)
	}
	audited.expectTraces(g.getTaskRun(ns, "good"), map[audit.Type]string{audit.RunReleased: verified.Trace, audit.Verification: signed.Trace})
}

// setConfigMap sets keys of a ConfigMap until the end of the test.
func (e *env) setConfigMap(namespace, name string, data map[string]string) {
	e.t.Helper()
	restore, err := cluster.SetConfigMap(e.t.Context(), namespace, name, data)
	e.check(err)
	e.cleanup(func() error { return restore(cleanupContext()) })
}

// waitSpan waits for a span with a name and attributes that fulfils all conditions.
func (e *env) waitSpan(traces *harness.Traces, name string, attributes map[string]string, conditions ...func(harness.TracedSpan) bool) (found harness.TracedSpan) {
	e.t.Helper()
	e.eventually(soon, func() error {
		all := traces.Spans(attributes)
		i := slices.IndexFunc(all, func(span harness.TracedSpan) bool {
			return span.Name == name && !slices.ContainsFunc(conditions, func(holds func(harness.TracedSpan) bool) bool { return !holds(span) })
		})
		if i < 0 {
			return fmt.Errorf("no span %s as wanted with %v, but %+v", name, attributes, all)
		}
		found = all[i]
		return nil
	})
	return found
}

// expectTraces requires that the audit records of a run name these traces.
func (e *auditEnv) expectTraces(run *v1.TaskRun, want map[audit.Type]string) {
	e.t.Helper()
	got := map[audit.Type]string{}
	for _, r := range e.records() {
		if r.Run != nil && r.Run.UID == string(run.UID) {
			got[r.Type] = r.TraceID
		}
	}
	if !maps.Equal(got, want) {
		e.t.Errorf("the audit records of %s name the traces %v, want %v", run.Name, got, want)
	}
}
