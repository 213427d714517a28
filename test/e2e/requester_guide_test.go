// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// Each block of docs/requester.md is executed, in the order of the page. Only the
// Deployment of the webhook is a process here.
func TestRequesterGuide_WorksBlockByBlock(t *testing.T) {
	e := startController(t)
	const ns, applier = "team-a", "applier@example.com"
	e.eventually(2*soon, func() error { // the test of another page has a namespace of this name
		_, err := cluster.Kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: ns, Labels: map[string]string{v1alpha1.SignLabel: "true"}},
		}, metav1.CreateOptions{})
		return err
	})
	e.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "namespace/"+ns, "clusterrole/trusted-resources-signer")
		return err
	})
	_, err := cluster.RunKubectl(t.Context(), "", "-n", ns, "create", "rolebinding", "editor", "--clusterrole=tekton-aggregate-edit", "--user="+applier, "--user="+editor)
	e.check(err)
	build, second := e.named(ns, versionOf("tasks", "v1"), "build"), e.named(ns, versionOf("tasks", "v1"), "second")
	annotations := func(n named) string { return fmt.Sprint(e.stored(n).GetAnnotations()) }
	e.executePage("requester.md", []pageStep{
		{section: "Install", before: func() bool { carriers["webhook"](e); return true }},
		{section: "Who may have what signed", after: func(output string) { e.expectText(output, "yes") }},
		{section: "Turn it on", after: func(string) {
			e.eventually(soon, func() error { return e.stamps(ns, applier, true) })
			e.create(editor, build)
			e.waitSigned(ns, build.name)
			e.expectText(annotations(build), "not-authorized:"+editor)
		}},
		{section: "Turn it on", after: func(output string) { e.expectText(output, "build", "<none>", editor) }},
		{section: "Turn it on", after: func(string) {
			e.expectText(annotations(build), "requested-by:"+applier)
			e.waitSigned(ns, build.name)
		}},
		{section: "Turn it on", after: func(string) {
			e.waitRequired(ns)
			e.create(editor, second)
			e.waitEvent(e.stored(second), v1alpha1.ReasonNotAuthorized, editor)
			e.expectUnsigned(second)
		}},
		{section: "When a resource is not signed", after: func(output string) { e.expectText(output, "task/second", editor) }},
		{section: "When the webhook does not run", after: func(string) {
			e.eventually(soon, func() error { return e.stamps(ns, applier, false) })
			e.expectProtected("without a webhook", e.tryPatch(editor, build, `{"spec":{"description":"x"}}`))
		}},
		{section: "Turn it off", after: func(string) {
			e.patch(editor, second, `{"spec":{"description":"x"}}`)
			e.waitSigned(ns, second.name)
		}},
	})
}

func (e *env) expectText(text string, wants ...string) {
	e.t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			e.t.Errorf("got %q, want it to contain %q", text, want)
		}
	}
}

// stamps returns an error unless the webhook names a user who creates a Task, or does not
// name anybody.
func (e *env) stamps(namespace, user string, want bool) error {
	n := e.named(namespace, versionOf("tasks", "v1"), "probe")
	made, err := e.dynamicAs(user).Resource(n.gvr).Namespace(namespace).Create(e.t.Context(), n.object(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return err
	}
	if stamped := made.GetAnnotations()[v1alpha1.RequestedByAnnotation] == user; stamped != want {
		return fmt.Errorf("annotations %v, want %s: %v", made.GetAnnotations(), user, want)
	}
	return nil
}
