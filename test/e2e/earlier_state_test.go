// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// An earlier signed state of a resource that somebody restores has a valid signature,
// so Tekton accepts it. The controller reports it. It does not report other changes.
func TestEarlierState_IsReported(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	for _, name := range []string{"replaced", "in-steps", "recreated", "edited", "undone", "copied-back"} {
		e.createTask(newTask(ns, name, func(t *v1.Task) { t.Spec.Description = "first" }))
		e.waitSigned(ns, name)
	}
	e.waitTakeover()
	earlier := map[string]*v1.Task{}
	for _, name := range []string{"replaced", "in-steps", "recreated", "edited", "undone", "copied-back"} {
		earlier[name] = e.getTask(ns, name)
		e.patchTask(ns, name, `{"spec":{"description":"second"}}`)
		e.waitSigned(ns, name)
	}
	tasks := cluster.Tekton.TektonV1().Tasks(ns)

	// Reported: the earlier content comes back with its signature.
	restored := e.getTask(ns, "replaced")
	restored.Spec, restored.Annotations = earlier["replaced"].Spec, earlier["replaced"].Annotations
	_, err := tasks.Update(t.Context(), restored, metav1.UpdateOptions{})
	e.check(err)
	e.waitEvent(restored, v1alpha1.ReasonEarlierStateRestored, e.keyID())

	e.check(tasks.Delete(t.Context(), "recreated", metav1.DeleteOptions{}))
	recreated := earlier["recreated"].DeepCopy()
	recreated.ResourceVersion, recreated.UID = "", ""
	e.waitEvent(e.createTask(recreated), v1alpha1.ReasonEarlierStateRestored)

	// In two steps, of which the first alone has an invalid signature.
	steps := e.getTask(ns, "in-steps")
	e.patchTask(ns, "in-steps", fmt.Sprintf(`{"metadata":{"annotations":{"tekton.dev/signature":%q}}}`, signature(earlier["in-steps"])))
	e.patchTask(ns, "in-steps", `{"spec":{"description":"first"}}`)
	e.waitSigned(ns, "in-steps")
	if signature(e.getTask(ns, "in-steps")) == signature(earlier["in-steps"]) { // faster than the controller's own signature
		e.waitEvent(steps, v1alpha1.ReasonEarlierStateRestored)
	}

	// Not reported: the controller signs each of these states anew.
	e.patchTask(ns, "edited", `{"spec":{"description":"third"}}`)
	e.patchTask(ns, "undone", `{"spec":{"description":"first"}}`)
	e.patchTask(ns, "copied-back", `{"spec":{"description":"first"},"metadata":{"annotations":{"tekton.dev/signature":null}}}`)
	for _, name := range []string{"edited", "undone", "copied-back"} {
		e.waitSigned(ns, name)
		if signature(e.getTask(ns, name)) == signature(earlier[name]) {
			t.Errorf("%s has its earlier signature", name)
		}
	}
	e.waitMetric(fmt.Sprintf(`trustedresources_earlier_states_restored_total{kind="Task"} %d`, len(e.restored(ns))))
	e.waitLogged(e.controller, "Earlier state restored", ns, `"name":"replaced"`)
	for _, name := range e.restored(ns) {
		if name != "replaced" && name != "recreated" && name != "in-steps" {
			t.Errorf("Task %s is reported as an earlier state", name)
		}
	}
}

// A replica that takes over reports nothing of what the other replica signed.
func TestEarlierState_IsNotReportedAfterFailover(t *testing.T) {
	e := newEnv(t)
	ns := e.namespace()
	first := e.addReplica("replica-1")
	e.createTask(newTask(ns, "changing"))
	e.waitSigned(ns, "changing")
	e.addReplica("replica-2")
	e.check(first.Stop(t.Context()))
	for i := range 10 {
		e.patchTask(ns, "changing", fmt.Sprintf(`{"spec":{"description":"change %d"}}`, i))
	}
	e.waitSigned(ns, "changing")
	if names := e.restored(ns); len(names) > 0 {
		t.Errorf("%v are reported as earlier states", names)
	}
}

// restored returns the names of the resources that are reported as restored, by now.
func (e *env) restored(namespace string) (names []string) {
	e.t.Helper()
	events, err := cluster.Kube.CoreV1().Events(namespace).List(e.t.Context(), metav1.ListOptions{
		FieldSelector: "reason=" + v1alpha1.ReasonEarlierStateRestored,
	})
	e.check(err)
	for _, event := range events.Items {
		names = append(names, event.InvolvedObject.Name)
	}
	return names
}

// waitTakeover waits until the controller counts all signatures that it did not make
// as those of earlier states: another replica may have signed until a minute ago.
func (e *env) waitTakeover() {
	e.t.Helper()
	const takeover = time.Minute + time.Second
	started := time.Now()
	e.check(wait.PollUntilContextTimeout(e.t.Context(), time.Second, harness.TimeLimit(2*takeover), true, func(context.Context) (bool, error) {
		return time.Since(started) > takeover, nil
	}))
}
