// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/test/harness"
)

var (
	// soon is the time limit for everything that the controller does without
	// waiting for another system.
	soon = harness.TimeLimit(30 * time.Second)
	// afterFailover also leaves time for a lease to expire.
	afterFailover = harness.TimeLimit(time.Minute)
)

// eventually polls until check returns nil. Otherwise the test fails with the last
// error of check.
func (e *env) eventually(within time.Duration, check func() error) {
	e.t.Helper()
	e.check(harness.Eventually(e.t.Context(), within, func(context.Context) error { return check() }))
}

// waitSigned waits until Tekton's verifier accepts the signature of the Task with the
// key of e.
func (e *env) waitSigned(namespace, name string) *v1.Task {
	e.t.Helper()
	var got *v1.Task
	e.eventually(soon, func() error {
		var err error
		if got, err = cluster.Tekton.TektonV1().Tasks(namespace).Get(e.t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		return harness.Verify(e.t.Context(), got, e.public)
	})
	return got
}

// waitEvent waits for an Event about an object whose message contains all texts.
func (e *env) waitEvent(obj metav1.Object, reason string, texts ...string) {
	e.t.Helper()
	e.waitEventWithin(soon, obj, reason, texts...)
}

func (e *env) waitEventWithin(within time.Duration, obj metav1.Object, reason string, texts ...string) {
	e.t.Helper()
	e.eventually(within, func() error {
		namespace := obj.GetNamespace()
		events, err := cluster.Kube.CoreV1().Events(namespace).List(e.t.Context(), metav1.ListOptions{
			FieldSelector: "reason=" + reason + ",involvedObject.name=" + obj.GetName(),
		})
		if err != nil {
			return err
		}
		var found []string
		for _, event := range events.Items {
			found = append(found, event.Message)
			if event.InvolvedObject.UID == obj.GetUID() && containsAll(event.Message, texts) {
				return nil
			}
		}
		return fmt.Errorf("no Event %s on %s/%s with %q; found %q", reason, namespace, obj.GetName(), texts, found)
	})
}

// waitLogged waits for a line of the controller's log that contains all texts.
func (e *env) waitLogged(controller *harness.Controller, texts ...string) {
	e.t.Helper()
	e.eventually(soon, func() error {
		log, err := controller.Log()
		if err != nil {
			return err
		}
		for line := range strings.Lines(log) {
			if containsAll(line, texts) {
				return nil
			}
		}
		return fmt.Errorf("no line in the log of %s contains %q", controller.Name, texts)
	})
}

// expectNoWrites watches a namespace for the given time and fails the test if any
// Task changes.
func (e *env) expectNoWrites(namespace string, during time.Duration) {
	e.t.Helper()
	if writes := e.countWritesDuring(namespace, during); writes > 0 {
		e.t.Errorf("%d writes to Tasks of namespace %s within %v, want none", writes, namespace, during)
	}
}

// countWritesDuring counts the changes to Tasks of a namespace from now on. It always
// takes the whole time.
func (e *env) countWritesDuring(namespace string, during time.Duration) (writes int) {
	e.t.Helper()
	seconds := int64(during.Seconds())
	list, err := cluster.Tekton.TektonV1().Tasks(namespace).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	watcher, err := cluster.Tekton.TektonV1().Tasks(namespace).Watch(e.t.Context(), metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, TimeoutSeconds: &seconds,
	})
	e.check(err)
	defer watcher.Stop()
	for change := range watcher.ResultChan() { // closed after TimeoutSeconds
		if obj, ok := change.Object.(metav1.Object); ok {
			e.t.Logf("%s %s/%s at resourceVersion %s", change.Type, obj.GetNamespace(), obj.GetName(), obj.GetResourceVersion())
			writes++
		}
	}
	return writes
}

// containsAll reports whether text contains all parts.
func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}
