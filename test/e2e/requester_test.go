// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// Only what a holder of the verb sign wrote or approved is signed. The signature covers
// the name.
func TestRequester_SignsWhatAHolderWrote(t *testing.T) {
	e := startController(t)
	e.startWebhook("required")
	ns := e.namespace()
	e.users(ns)
	for _, gvr := range versions {
		t.Run(gvr.Resource+" "+gvr.Version, func(t *testing.T) {
			e := e.sub(t)
			n := e.named(ns, gvr, "by-holder-"+gvr.Version)
			e.create(holder, n)
			e.waitSignature(n)
			e.expectRequester(n, holder, "")

			n = e.named(ns, gvr, "by-editor-"+gvr.Version)
			e.create(editor, n)
			e.waitEvent(e.stored(n), v1alpha1.ReasonNotAuthorized, editor, v1alpha1.RequestedByAnnotation)
			e.expectRequester(n, "", editor)
			e.expectUnsigned(n)

			// Approval: a holder changes only the value.
			e.patch(holder, n, annotationPatch(v1alpha1.RequestedByAnnotation, "anything"))
			e.waitSignature(n)
			e.expectRequester(n, holder, "")
		})
	}
}

// An old content, put back with its old signature by somebody who may not sign, does not
// verify: the value is removed, and the signature covers it. Tekton is the judge.
func TestRequester_ClosesRollback(t *testing.T) {
	e := startController(t)
	e.startWebhook("off")
	ns := e.namespace()
	e.users(ns)
	e.check(cluster.Trust(t.Context(), ns, e.public))
	tasks := cluster.Tekton.TektonV1().Tasks(ns)
	rollback := func(name string, old *v1.Task) {
		restored := e.getTask(ns, name)
		restored.Spec, restored.Annotations, restored.Labels = old.Spec, old.Annotations, old.Labels
		_, err := e.tektonAs(editor).TektonV1().Tasks(ns).Update(t.Context(), restored, metav1.UpdateOptions{})
		e.check(err)
	}
	makeTwo := func(name string) (old *v1.Task) {
		n := e.named(ns, versionOf("tasks", "v1"), name)
		e.create(holder, n)
		old = e.waitSigned(ns, name)
		e.patch(holder, n, `{"spec":{"description":"second"}}`)
		e.waitSigned(ns, name)
		return old
	}
	// Without the setting, the old state runs.
	old := makeTwo("off")
	rollback("off", old)
	e.expectSuccess(e.runTaskRef(ns, v1.TaskRef{Name: "off"}))
	older := makeTwo("older")

	e.require("required")
	old = makeTwo("required")
	for name, old := range map[string]*v1.Task{"required": old, "older": older} { // also a state from before the setting
		rollback(name, old)
		found, err := tasks.Get(t.Context(), name, metav1.GetOptions{})
		e.check(err)
		if signature(found) != signature(old) || found.Spec.Description != old.Spec.Description {
			t.Fatalf("%s: the old content and its signature are not back: %+v", name, found)
		}
		if err := harness.Verify(t.Context(), found, e.public); err == nil {
			t.Errorf("%s: the old signature verifies", name)
		}
		e.waitEvent(found, v1alpha1.ReasonNotAuthorized, editor)
		e.expectRefused(e.runTaskRef(ns, v1.TaskRef{Name: name}))
	}
	// A holder may go back. What a resolver fetched passes Tekton's dry run unchanged.
	e.patch(holder, e.named(ns, versionOf("tasks", "v1"), "required"), annotationPatch(v1alpha1.RequestedByAnnotation, "x"))
	e.waitSigned(ns, "required")
	e.expectSuccess(e.runTaskRef(ns, v1.TaskRef{Name: "required"}))
}

// Nobody can name a requester before the namespace is selected, when the webhook is not
// called.
func TestRequester_CannotBeForgedBeforeLabelling(t *testing.T) {
	e := startController(t)
	webhook := e.startWebhook("required")
	ns := e.namespaceLabelled(nil)
	e.users(ns)
	e.waitProtected(ns)
	for _, gvr := range versions {
		t.Run(gvr.Resource+" "+gvr.Version, func(t *testing.T) {
			e := e.sub(t)
			n := e.named(ns, gvr, "forged-"+gvr.Version)
			for user, value := range map[string]string{editor: holder, holder: "somebody else"} {
				_, err := e.dynamicAs(user).Resource(gvr).Namespace(ns).Create(t.Context(), n.requestedBy(value).object(), metav1.CreateOptions{})
				e.expectProtected(user+" creates", err)
			}
			_, err := e.dynamicAs(editor).Resource(gvr).Namespace(ns).Create(t.Context(), n.requestedBy(editor).object(), metav1.CreateOptions{})
			e.expectProtected("editor names itself", err)
			e.create(editor, n) // without the annotation nothing is refused
			e.expectProtected("editor patches", e.tryPatch(editor, n, annotationPatch(v1alpha1.RequestedByAnnotation, holder)))
			e.check(e.tryPatch(editor, n, `{"spec":{"description":"second"}}`))

			n = e.named(ns, gvr, "true-"+gvr.Version).requestedBy(holder)
			e.create(holder, n)
			e.expectProtected("editor changes the content", e.tryPatch(editor, n, `{"spec":{"description":"second"}}`))
			e.expectProtected("editor changes a label", e.tryPatch(editor, n, `{"metadata":{"labels":{"a":"b"}}}`))
			err = e.tryPatch(editor, n, `{"metadata":{"finalizers":["example.com/x"]}}`)
			if hashed(gvr) {
				e.check(err) // not content
			} else {
				e.expectProtected("editor writes in another version", err)
			}
			e.check(e.tryPatch(holder, n, `{"spec":{"description":"second"},"metadata":{"finalizers":null}}`))
		})
	}
	e.labelNamespace(ns, "true")
	forged := e.named(ns, versionOf("tasks", "v1"), "forged-v1")
	e.waitSigned(ns, "true-v1")
	e.waitEvent(e.stored(forged), v1alpha1.ReasonNotAuthorized, "not known who")
	e.expectUnsigned(forged)

	// The webhook is down: a true value can still not become a false one.
	e.check(webhook.Kill(t.Context()))
	e.labelNamespace(ns, "")
	e.expectProtected("without the webhook", e.tryPatch(editor, forged, annotationPatch(v1alpha1.RequestedByAnnotation, holder)))
}

// The controller must not be able to approve. With record the setting is no condition.
func TestRequester_RefusesAnAccountThatMaySign(t *testing.T) {
	e := startController(t)
	e.startWebhook("record")
	e.bindClusterAdmin()
	ns := e.namespace()
	e.users(ns)
	n := e.named(ns, versionOf("tasks", "v1"), "recorded")
	e.create(editor, n)
	e.waitSigned(ns, "recorded") // as without the setting
	e.expectRequester(n, "", editor)

	e.configure(with(signAll, map[string]string{"trustedresources.requester": "required"}))
	e.waitLogged(e.controller, "cannot be relied upon", "verb sign on tasks.tekton.dev")
	n = e.named(ns, versionOf("tasks", "v1"), "required")
	e.create(holder, n)
	e.waitEvent(e.stored(n), v1alpha1.ReasonRequesterUnsafe, "verb sign on tasks.tekton.dev")
	e.expectUnsigned(n)
}

func (e *env) expectUnsigned(n named) {
	e.t.Helper()
	if found := e.stored(n).GetAnnotations()[trustedresources.SignatureAnnotation]; found != "" {
		e.t.Errorf("%s is signed", n)
	}
}

// The attestation of a run names the requester of each resource that passed, while the
// setting is on.
func TestRequester_IsInTheAttestation(t *testing.T) {
	e := startController(t)
	e.startWebhook("record")
	ns := e.namespace()
	e.users(ns)
	e.check(cluster.Trust(t.Context(), ns, e.public))
	for _, name := range []string{holder, editor} {
		e.create(name, e.named(ns, versionOf("tasks", "v1"), name[:6]))
		e.waitSigned(ns, name[:6])
	}
	for _, tc := range []struct{ requester, task, want string }{
		{"record", holder[:6], holder},
		{"record", editor[:6], ""}, // signed, but nobody with the right is known
		{"off", holder[:6], ""},
	} {
		e.configure(with(withProvenance, map[string]string{"trustedresources.requester": tc.requester}))
		var got []harness.Verification
		e.eventually(soon, func() error { // until the configuration is in force
			run := e.runTaskRef(ns, v1.TaskRef{ResolverRef: v1.ResolverRef{Resolver: "cluster", Params: v1.Params{
				{Name: "kind", Value: *v1.NewStructuredValues("task")},
				{Name: "name", Value: *v1.NewStructuredValues(tc.task)},
				{Name: "namespace", Value: *v1.NewStructuredValues(ns)},
			}}})
			e.expectSuccess(run)
			p, err := harness.ParseProvenance(e.attested(ns, run.Name))
			if err != nil {
				return err // made with the configuration of before
			}
			if got, err = p.Verifications(); err != nil {
				return err
			}
			if len(got) != 1 || got[0].Result != "PASSED" || got[0].RequestedBy != tc.want {
				return fmt.Errorf("requester %s, Task %s: got %+v, want requested by %q", tc.requester, tc.task, got, tc.want)
			}
			return nil
		})
	}
}

// attested waits until Chains has signed a TaskRun, and returns the attestation.
func (e *env) attested(namespace, name string) (payload []byte) {
	e.t.Helper()
	e.eventually(soon, func() error {
		run, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if run.Annotations[chainsSigned] != "true" {
			return fmt.Errorf("TaskRun %s has the annotations %v", name, run.Annotations)
		}
		payload, err = harness.Attestation(run, harness.TaskRun, e.public)
		return err
	})
	return payload
}
