// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Only what a holder of the verb sign wrote is signed, and the signature covers the name.
func TestRequester_SignsWhatAHolderWrote(t *testing.T) {
	e := startController(t)
	e.startWebhook("required")
	ns := e.namespace()
	e.users(ns)
	task := versionOf("tasks", "v1")
	build := e.resource(ns, task, "build")
	_, err := e.as(holder).Resource(task).Namespace(ns).Create(t.Context(), build.object(), metav1.CreateOptions{})
	e.check(err)
	e.expectRequester(build, holder, "")
	e.waitSigned(ns, "build")

	other := e.resource(ns, task, "other")
	_, err = e.as(editor).Resource(task).Namespace(ns).Create(t.Context(), other.object(), metav1.CreateOptions{})
	e.check(err)
	e.expectRequester(other, "", editor)
	e.waitNotAuthorized(other, editor)
}
