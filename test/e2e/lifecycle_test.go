// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func TestLifecycle_EndsWithValidSignature(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	for _, step := range []struct {
		name string
		do   func(e *env, namespace string)
	}{
		{"unsigned Task is created", createUnsigned},
		{"same manifest is applied twice", kubectlApplyTwice},
		{"same manifest without defaults is applied twice", kubectlApplyTwiceWithoutDefaults},
		{"another manager uses server-side apply", serverSideApply},
		{"Task is deleted and created again", deleteAndCreateAgain},
		{"name is generated", generateName},
		{"script has 200 kB", longScript},
		{"finalizer keeps a deleted Task", keptByFinalizer},
		{"signature is of another resource", signatureOfAnotherResource},
		{"signed Task is copied to another namespace", copyInAnotherNamespace},
		{"Pipeline and StepAction are created", otherKinds},
		{"spec is updated", updating(`{"spec":{"description":"changed"}}`)},
		{"label is updated", updating(`{"metadata":{"labels":{"changed":"yes"}}}`)},
		{"annotation is updated", updating(`{"metadata":{"annotations":{"changed":"yes"}}}`)},
		{"signature is not base64", signedAs("%%%")},
		{"signature is random data", signedAs("Z2FyYmFnZQ==")},
		// The last step watches all resources of the steps before.
		{"nothing is written without a change", noWritesWithoutChange},
	} {
		t.Run(step.name, func(t *testing.T) { step.do(e.sub(t), ns) })
	}
}

func createUnsigned(e *env, ns string) {
	keyID := e.keyID()
	created := e.createTask(newTask(ns, "plain"))
	e.waitSigned(ns, "plain")
	e.waitEvent(created, v1alpha1.ReasonSigned, keyID)
	e.waitLogged(e.controller, `"msg":"Resource signed"`, `"kind":"Task"`, `"namespace":"`+ns+`"`, `"name":"plain"`, `"reason":"Unsigned"`, keyID)
}

func kubectlApplyTwice(e *env, ns string) {
	manifest := fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"applied","namespace":%q},
		"spec":{"steps":[{"name":"a","image":"alpine","computeResources":{},"script":"echo hello"}]}}`, ns)
	e.kubectlApply(manifest)
	before := e.waitSigned(ns, "applied")
	if out := e.kubectlApply(manifest); !strings.Contains(out, "unchanged") {
		e.t.Errorf("kubectl apply printed %q, want \"unchanged\"", out)
	}
	if after := e.getTask(ns, "applied"); after.ResourceVersion != before.ResourceVersion {
		e.t.Errorf("resourceVersion went from %s to %s", before.ResourceVersion, after.ResourceVersion)
	}
}

// Tekton's webhook fills in defaults. kubectl does not know these defaults, so it
// patches the steps each time. The controller must not write because of that.
func kubectlApplyTwiceWithoutDefaults(e *env, ns string) {
	manifest := fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"short","namespace":%q},
		"spec":{"steps":[{"image":"alpine","script":"echo hello"}]}}`, ns)
	e.kubectlApply(manifest)
	before := e.waitSigned(ns, "short")
	e.kubectlApply(manifest)
	e.createTask(newTask(ns, "after-short"))
	e.waitSigned(ns, "after-short") // the controller has handled everything that was queued before
	if after := e.getTask(ns, "short"); signature(after) != signature(before) {
		e.t.Error("the Task was signed again although the manifest is the same")
	}
	if writes := e.auditedWrites(ns)["short"]; writes != 1 {
		e.t.Errorf("the controller wrote the Task %d times, want once", writes)
	}
}

func serverSideApply(e *env, ns string) {
	manifest := func(image string) string {
		return fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"ssa","namespace":%q},
			"spec":{"steps":[{"image":%q,"script":"echo hello"}]}}`, ns, image)
	}
	e.kubectlApply(manifest("alpine"), "--server-side", "--field-manager=gitops")
	before := e.waitSigned(ns, "ssa")
	e.kubectlApply(manifest("alpine"), "--server-side", "--field-manager=gitops")
	if after := e.getTask(ns, "ssa"); after.ResourceVersion != before.ResourceVersion {
		e.t.Errorf("after the same manifest: resourceVersion went from %s to %s", before.ResourceVersion, after.ResourceVersion)
	}
	e.kubectlApply(manifest("busybox"), "--server-side", "--field-manager=gitops")
	if after := e.waitSigned(ns, "ssa"); after.Spec.Steps[0].Image != "busybox" {
		e.t.Errorf("the other manager's change was undone: image %s", after.Spec.Steps[0].Image)
	}
}

func deleteAndCreateAgain(e *env, ns string) {
	e.createTask(newTask(ns, "again"))
	first := e.waitSigned(ns, "again")
	e.check(cluster.Tekton.TektonV1().Tasks(ns).Delete(e.t.Context(), "again", metav1.DeleteOptions{}))
	e.createTask(newTask(ns, "again"))
	if second := e.waitSigned(ns, "again"); second.UID == first.UID {
		e.t.Error("the second Task has the UID of the first one")
	}
}

func generateName(e *env, ns string) {
	created := e.createTask(newTask(ns, "", func(t *v1.Task) { t.GenerateName = "generated-" }))
	if got := e.waitSigned(ns, created.Name); got.GenerateName != "generated-" {
		e.t.Errorf("generateName is %q, want generated-", got.GenerateName)
	}
}

func longScript(e *env, ns string) {
	script := "#!/bin/sh\n" + strings.Repeat("echo 'é漢🙂 <&>'\n", 200_000/23)
	e.createTask(newTask(ns, "long", func(t *v1.Task) { t.Spec.Steps[0].Script = script }))
	if got := e.waitSigned(ns, "long"); got.Spec.Steps[0].Script != script {
		e.t.Error("the script has changed")
	}
}

func keptByFinalizer(e *env, ns string) {
	e.createTask(newTask(ns, "finalized", func(t *v1.Task) { t.Finalizers = []string{"example.com/keep"} }))
	e.waitSigned(ns, "finalized")
	e.check(cluster.Tekton.TektonV1().Tasks(ns).Delete(e.t.Context(), "finalized", metav1.DeleteOptions{}))
	e.patchTask(ns, "finalized", `{"metadata":{"annotations":{"changed":"while being deleted"}}}`)
	e.createTask(newTask(ns, "after-finalized"))
	e.waitSigned(ns, "after-finalized") // the controller has handled everything that was queued before
	if got := e.getTask(ns, "finalized"); harness.Verify(e.t.Context(), got, e.public) == nil {
		e.t.Error("the Task was signed again while it is being deleted")
	}
	e.patchTask(ns, "finalized", `{"metadata":{"finalizers":null}}`)
	e.eventually(soon, func() error {
		_, err := cluster.Tekton.TektonV1().Tasks(ns).Get(e.t.Context(), "finalized", metav1.GetOptions{})
		if ignoreNotFound(err) != nil || err == nil {
			return errors.Join(errors.New("Task finalized still exists"), err)
		}
		return nil
	})
}

func signatureOfAnotherResource(e *env, ns string) {
	e.createTask(newTask(ns, "original"))
	original := e.waitSigned(ns, "original")
	e.createTask(newTask(ns, "copy", func(t *v1.Task) { t.Annotations = original.Annotations }))
	if got := e.waitSigned(ns, "copy"); signature(got) == signature(original) {
		e.t.Error("the copy still has the signature of the original")
	}
}

func copyInAnotherNamespace(e *env, ns string) {
	elsewhere := e.namespace()
	e.createTask(newTask(ns, "source"))
	source := e.waitSigned(ns, "source")
	e.createTask(newTask(elsewhere, "source", func(t *v1.Task) { t.Annotations = source.Annotations }))
	e.waitSigned(elsewhere, "source")
}

func otherKinds(e *env, ns string) {
	keyID := e.keyID()
	pipeline, err := cluster.Tekton.TektonV1().Pipelines(ns).Create(e.t.Context(), &v1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: "pipeline"},
		Spec:       v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "a", TaskRef: &v1.TaskRef{Name: "plain"}}}},
	}, metav1.CreateOptions{})
	e.check(err)
	action, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Create(e.t.Context(), &v1beta1.StepAction{
		ObjectMeta: metav1.ObjectMeta{Name: "action"}, Spec: v1beta1.StepActionSpec{Image: "alpine", Script: "echo hello"},
	}, metav1.CreateOptions{})
	e.check(err)
	e.eventually(soon, func() error {
		got, err := cluster.Tekton.TektonV1().Pipelines(ns).Get(e.t.Context(), "pipeline", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return harness.Verify(e.t.Context(), got, e.public)
	})
	e.eventually(soon, func() error {
		got, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Get(e.t.Context(), "action", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return harness.Verify(e.t.Context(), got, e.public)
	})
	e.waitEvent(pipeline, v1alpha1.ReasonSigned, keyID)
	e.waitEvent(action, v1alpha1.ReasonSigned, keyID)
}

// updating returns a step that changes a signed Task.
func updating(mergePatch string) func(*env, string) {
	return func(e *env, ns string) {
		created := e.createTask(newTask(ns, "", func(t *v1.Task) { t.GenerateName = "update-" }))
		before := e.waitSigned(ns, created.Name)
		e.patchTask(ns, created.Name, mergePatch)
		if after := e.waitSigned(ns, created.Name); signature(before) == signature(after) {
			e.t.Error("the signature did not change with the content")
		}
		e.waitEvent(created, v1alpha1.ReasonSignedAgain, "content has changed")
	}
}

// signedAs returns a step that creates a Task with an invalid signature.
func signedAs(value string) func(*env, string) {
	return func(e *env, ns string) {
		created := e.createTask(newTask(ns, "", func(t *v1.Task) {
			t.GenerateName = "odd-"
			t.Annotations = map[string]string{trustedresources.SignatureAnnotation: value}
		}))
		e.waitSigned(ns, created.Name)
	}
}

func noWritesWithoutChange(e *env, ns string) {
	before := e.resourceVersions(ns)
	e.expectNoWrites(ns, 30*time.Second)
	if after := e.resourceVersions(ns); !maps.Equal(before, after) {
		e.t.Errorf("resourceVersions went from %v to %v", before, after)
	}
}

// resourceVersions returns the resourceVersion of each signable resource in a
// namespace, by kind and name.
func (e *env) resourceVersions(namespace string) map[string]string {
	e.t.Helper()
	tasks, err := cluster.Tekton.TektonV1().Tasks(namespace).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	pipelines, err := cluster.Tekton.TektonV1().Pipelines(namespace).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	actions, err := cluster.Tekton.TektonV1beta1().StepActions(namespace).List(e.t.Context(), metav1.ListOptions{})
	e.check(err)
	versions := map[string]string{}
	for _, t := range tasks.Items {
		versions["Task "+t.Name] = t.ResourceVersion
	}
	for _, p := range pipelines.Items {
		versions["Pipeline "+p.Name] = p.ResourceVersion
	}
	for _, a := range actions.Items {
		versions["StepAction "+a.Name] = a.ResourceVersion
	}
	return versions
}
