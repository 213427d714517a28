package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/controllers/resources"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func TestLifecycle_EndsWithValidSignature(t *testing.T) {
	e := start(t)
	ns := e.namespace()
	for _, step := range []struct {
		name string
		do   func(e *env, namespace string)
	}{
		{"create unsigned", createUnsigned},
		{"kubectl apply twice", kubectlApplyTwice},
		{"kubectl apply twice without defaults", kubectlApplyTwiceWithoutDefaults},
		{"server-side apply by another manager", serverSideApply},
		{"delete and create again", deleteAndCreateAgain},
		{"generateName", generateName},
		{"a script of 200 kB", longScript},
		{"kept by a finalizer while it is deleted", keptByFinalizer},
		{"a signature of another resource", signatureOfAnother},
		{"a copy in another namespace", copyInAnotherNamespace},
		{"the other kinds", otherKinds},
		{"update spec", updating(`{"spec":{"description":"changed"}}`)},
		{"update label", updating(`{"metadata":{"labels":{"changed":"yes"}}}`)},
		{"update annotation", updating(`{"metadata":{"annotations":{"changed":"yes"}}}`)},
		{"a signature that is not base64", signedAs("%%%")},
		{"a signature that is garbage", signedAs("Z2FyYmFnZQ==")},
		// Last, so that all of the above has to stay quiet.
		{"no hot loop", noHotLoop},
	} {
		t.Run(step.name, func(t *testing.T) { step.do(e.in(t), ns) })
	}
}

func createUnsigned(e *env, ns string) {
	keyID := e.keyID()
	created := e.create(task(ns, "plain"))
	e.signed(ns, "plain")
	e.event(created, resources.ReasonSigned, keyID)
	e.logged(e.controller, `"msg":"Resource signed"`, `"kind":"Task"`, `"namespace":"`+ns+`"`, `"name":"plain"`, `"reason":"Unsigned"`, keyID)
}

func kubectlApplyTwice(e *env, ns string) {
	manifest := fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"applied","namespace":%q},
		"spec":{"steps":[{"name":"a","image":"alpine","computeResources":{},"script":"echo hello"}]}}`, ns)
	e.apply(manifest)
	before := e.signed(ns, "applied")
	if out := e.apply(manifest); !strings.Contains(out, "unchanged") {
		e.Errorf("kubectl says %q", out)
	}
	if after := e.get(ns, "applied"); after.ResourceVersion != before.ResourceVersion {
		e.Errorf("resourceVersion went from %s to %s", before.ResourceVersion, after.ResourceVersion)
	}
}

// Tekton's webhook fills in defaults, and kubectl, which does not know them,
// then patches the steps each time. That must not make us write.
func kubectlApplyTwiceWithoutDefaults(e *env, ns string) {
	manifest := fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"short","namespace":%q},
		"spec":{"steps":[{"image":"alpine","script":"echo hello"}]}}`, ns)
	e.apply(manifest)
	before := e.signed(ns, "short")
	e.apply(manifest)
	e.create(task(ns, "after-short"))
	e.signed(ns, "after-short") // whatever was queued before is done now
	if after := e.get(ns, "short"); signature(after) != signature(before) {
		e.Error("it was signed again")
	}
	if writes := e.writes(ns)["short"]; writes != 1 {
		e.Errorf("the controller wrote it %d times, want once", writes)
	}
}

func serverSideApply(e *env, ns string) {
	manifest := func(image string) string {
		return fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"ssa","namespace":%q},
			"spec":{"steps":[{"image":%q,"script":"echo hello"}]}}`, ns, image)
	}
	e.apply(manifest("alpine"), "--server-side", "--field-manager=gitops")
	before := e.signed(ns, "ssa")
	e.apply(manifest("alpine"), "--server-side", "--field-manager=gitops")
	if after := e.get(ns, "ssa"); after.ResourceVersion != before.ResourceVersion {
		e.Errorf("the same manifest again: resourceVersion went from %s to %s", before.ResourceVersion, after.ResourceVersion)
	}
	e.apply(manifest("busybox"), "--server-side", "--field-manager=gitops")
	if after := e.signed(ns, "ssa"); after.Spec.Steps[0].Image != "busybox" {
		e.Errorf("the other manager's change was undone: image %s", after.Spec.Steps[0].Image)
	}
}

func deleteAndCreateAgain(e *env, ns string) {
	e.create(task(ns, "again"))
	first := e.signed(ns, "again")
	e.check(cluster.Tekton.TektonV1().Tasks(ns).Delete(e.Context(), "again", metav1.DeleteOptions{}))
	e.create(task(ns, "again"))
	if second := e.signed(ns, "again"); second.UID == first.UID {
		e.Error("it is still the first one")
	}
}

func generateName(e *env, ns string) {
	created := e.create(task(ns, "", func(t *v1.Task) { t.GenerateName = "generated-" }))
	if got := e.signed(ns, created.Name); got.GenerateName != "generated-" {
		e.Errorf("generateName is %q", got.GenerateName)
	}
}

func longScript(e *env, ns string) {
	script := "#!/bin/sh\n" + strings.Repeat("echo 'é漢🙂 <&>'\n", 200_000/23)
	e.create(task(ns, "long", func(t *v1.Task) { t.Spec.Steps[0].Script = script }))
	if got := e.signed(ns, "long"); got.Spec.Steps[0].Script != script {
		e.Error("the script is another one now")
	}
}

func keptByFinalizer(e *env, ns string) {
	e.create(task(ns, "finalized", func(t *v1.Task) { t.Finalizers = []string{"example.com/keep"} }))
	e.signed(ns, "finalized")
	e.check(cluster.Tekton.TektonV1().Tasks(ns).Delete(e.Context(), "finalized", metav1.DeleteOptions{}))
	e.patch(ns, "finalized", `{"metadata":{"annotations":{"changed":"while being deleted"}}}`)
	e.create(task(ns, "after-finalized"))
	e.signed(ns, "after-finalized") // whatever was queued before is done now
	if got := e.get(ns, "finalized"); harness.Verify(e.Context(), got, e.public) == nil {
		e.Error("it was signed again")
	}
	e.patch(ns, "finalized", `{"metadata":{"finalizers":null}}`)
	e.eventually(soon, func() error {
		_, err := cluster.Tekton.TektonV1().Tasks(ns).Get(e.Context(), "finalized", metav1.GetOptions{})
		if ignoreNotFound(err) != nil || err == nil {
			return fmt.Errorf("it is still there: %w", err)
		}
		return nil
	})
}

func signatureOfAnother(e *env, ns string) {
	e.create(task(ns, "original"))
	original := e.signed(ns, "original")
	e.create(task(ns, "copy", func(t *v1.Task) { t.Annotations = original.Annotations }))
	if got := e.signed(ns, "copy"); signature(got) == signature(original) {
		e.Error("the signature of the other resource was kept")
	}
}

func copyInAnotherNamespace(e *env, ns string) {
	elsewhere := e.namespace()
	e.create(task(ns, "source"))
	source := e.signed(ns, "source")
	e.create(task(elsewhere, "source", func(t *v1.Task) { t.Annotations = source.Annotations }))
	e.signed(elsewhere, "source")
}

func otherKinds(e *env, ns string) {
	keyID := e.keyID()
	pipeline, err := cluster.Tekton.TektonV1().Pipelines(ns).Create(e.Context(), &v1.Pipeline{
		ObjectMeta: metav1.ObjectMeta{Name: "pipeline"},
		Spec:       v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "a", TaskRef: &v1.TaskRef{Name: "plain"}}}},
	}, metav1.CreateOptions{})
	e.check(err)
	action, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Create(e.Context(), &v1beta1.StepAction{
		ObjectMeta: metav1.ObjectMeta{Name: "action"}, Spec: v1beta1.StepActionSpec{Image: "alpine", Script: "echo hello"},
	}, metav1.CreateOptions{})
	e.check(err)
	e.eventually(soon, func() error {
		got, err := cluster.Tekton.TektonV1().Pipelines(ns).Get(e.Context(), "pipeline", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return harness.Verify(e.Context(), got, e.public)
	})
	e.eventually(soon, func() error {
		got, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Get(e.Context(), "action", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return harness.Verify(e.Context(), got, e.public)
	})
	e.event(pipeline, resources.ReasonSigned, keyID)
	e.event(action, resources.ReasonSigned, keyID)
}

// updating changes a signed Task.
func updating(mergePatch string) func(*env, string) {
	return func(e *env, ns string) {
		created := e.create(task(ns, "", func(t *v1.Task) { t.GenerateName = "update-" }))
		before := e.signed(ns, created.Name)
		e.patch(ns, created.Name, mergePatch)
		if after := e.signed(ns, created.Name); signature(before) == signature(after) {
			e.Error("the signature is still the one from before")
		}
		e.event(created, resources.ReasonSignedAgain, "content has changed")
	}
}

// signedAs creates a Task with something in the place of a signature.
func signedAs(value string) func(*env, string) {
	return func(e *env, ns string) {
		created := e.create(task(ns, "", func(t *v1.Task) {
			t.GenerateName = "odd-"
			t.Annotations = map[string]string{trustedresources.SignatureAnnotation: value}
		}))
		e.signed(ns, created.Name)
	}
}

func noHotLoop(e *env, ns string) {
	before := e.versions(ns)
	e.untouched(ns, 30*time.Second)
	if after := e.versions(ns); !maps.Equal(before, after) {
		e.Errorf("resourceVersions went from %v to %v", before, after)
	}
}

// versions are the resourceVersions of all signable resources of a namespace.
func (e *env) versions(namespace string) map[string]string {
	e.Helper()
	tasks, err := cluster.Tekton.TektonV1().Tasks(namespace).List(e.Context(), metav1.ListOptions{})
	e.check(err)
	pipelines, err := cluster.Tekton.TektonV1().Pipelines(namespace).List(e.Context(), metav1.ListOptions{})
	e.check(err)
	actions, err := cluster.Tekton.TektonV1beta1().StepActions(namespace).List(e.Context(), metav1.ListOptions{})
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

func (e *env) keyID() string {
	e.Helper()
	id, err := keys.KeyID(e.public)
	e.check(err)
	return id
}

// in is the same controller for a subtest.
func (e *env) in(t *testing.T) *env {
	sub := *e
	sub.T = t
	return &sub
}
