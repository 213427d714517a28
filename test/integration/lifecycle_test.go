package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/reconciler/resources"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func TestLifecycle(t *testing.T) {
	e := start(t)
	ns := e.namespace()
	keyID, err := keyring.KeyID(e.public)
	e.check(err)

	t.Run("create unsigned", func(t *testing.T) {
		e := e.in(t)
		created := e.create(task(ns, "plain"))
		e.signed(ns, "plain")
		e.event(created, resources.ReasonSigned, keyID)
		e.logged(e.controller, `"msg":"Resource signed"`, `"kind":"Task"`, `"namespace":"`+ns+`"`, `"name":"plain"`, `"reason":"Unsigned"`, keyID)
	})

	for name, patch := range map[string]string{
		"spec":       `{"spec":{"description":"changed"}}`,
		"label":      `{"metadata":{"labels":{"changed":"yes"}}}`,
		"annotation": `{"metadata":{"annotations":{"changed":"yes"}}}`,
	} {
		t.Run("update "+name, func(t *testing.T) {
			e := e.in(t)
			resource := "update-" + name
			created := e.create(task(ns, resource))
			before := e.signed(ns, resource)
			e.patch(ns, resource, patch)
			after := e.signed(ns, resource)
			if signature(before) == signature(after) {
				t.Error("the signature is still the one from before")
			}
			e.event(created, resources.ReasonSignedAgain, "content has changed")
		})
	}

	t.Run("kubectl apply twice", func(t *testing.T) {
		e := e.in(t)
		manifest := fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"applied","namespace":%q},
			"spec":{"steps":[{"name":"a","image":"alpine","computeResources":{},"script":"echo hello"}]}}`, ns)
		e.apply(manifest)
		before := e.signed(ns, "applied")
		if out := e.apply(manifest); !strings.Contains(out, "unchanged") {
			t.Errorf("kubectl says %q", out)
		}
		if after := e.get(ns, "applied"); after.ResourceVersion != before.ResourceVersion {
			t.Errorf("resourceVersion went from %s to %s", before.ResourceVersion, after.ResourceVersion)
		}
	})

	// Tekton's webhook fills in defaults, and kubectl, which does not know them,
	// then patches the steps each time. That must not make us write.
	t.Run("kubectl apply twice without defaults", func(t *testing.T) {
		e := e.in(t)
		manifest := fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"short","namespace":%q},
			"spec":{"steps":[{"image":"alpine","script":"echo hello"}]}}`, ns)
		e.apply(manifest)
		before := e.signed(ns, "short")
		e.apply(manifest)
		e.create(task(ns, "after-short"))
		e.signed(ns, "after-short") // whatever was queued before is done now
		if after := e.get(ns, "short"); signature(after) != signature(before) {
			t.Error("it was signed again")
		}
		if writes := e.writes(ns)["short"]; writes != 1 {
			t.Errorf("the controller wrote it %d times, want once", writes)
		}
	})

	t.Run("server-side apply by another manager", func(t *testing.T) {
		e := e.in(t)
		manifest := func(image string) string {
			return fmt.Sprintf(`{"apiVersion":"tekton.dev/v1","kind":"Task","metadata":{"name":"ssa","namespace":%q},
				"spec":{"steps":[{"image":%q,"script":"echo hello"}]}}`, ns, image)
		}
		e.apply(manifest("alpine"), "--server-side", "--field-manager=gitops")
		before := e.signed(ns, "ssa")
		e.apply(manifest("alpine"), "--server-side", "--field-manager=gitops")
		if after := e.get(ns, "ssa"); after.ResourceVersion != before.ResourceVersion {
			t.Errorf("the same manifest again: resourceVersion went from %s to %s", before.ResourceVersion, after.ResourceVersion)
		}
		e.apply(manifest("busybox"), "--server-side", "--field-manager=gitops")
		if after := e.signed(ns, "ssa"); after.Spec.Steps[0].Image != "busybox" {
			t.Errorf("the other manager's change was undone: image %s", after.Spec.Steps[0].Image)
		}
	})

	t.Run("delete and create again", func(t *testing.T) {
		e := e.in(t)
		e.create(task(ns, "again"))
		first := e.signed(ns, "again")
		e.check(cluster.Tekton.TektonV1().Tasks(ns).Delete(t.Context(), "again", metav1.DeleteOptions{}))
		e.create(task(ns, "again"))
		if second := e.signed(ns, "again"); second.UID == first.UID {
			t.Error("it is still the first one")
		}
	})

	t.Run("generateName", func(t *testing.T) {
		e := e.in(t)
		created := e.create(task(ns, "", func(t *v1.Task) { t.GenerateName = "generated-" }))
		if got := e.signed(ns, created.Name); got.GenerateName != "generated-" {
			t.Errorf("generateName is %q", got.GenerateName)
		}
	})

	t.Run("a script of 200 kB", func(t *testing.T) {
		e := e.in(t)
		script := "#!/bin/sh\n" + strings.Repeat("echo 'é漢🙂 <&>'\n", 200_000/23)
		e.create(task(ns, "long", func(t *v1.Task) { t.Spec.Steps[0].Script = script }))
		if got := e.signed(ns, "long"); got.Spec.Steps[0].Script != script {
			t.Error("the script is another one now")
		}
	})

	t.Run("kept by a finalizer while it is deleted", func(t *testing.T) {
		e := e.in(t)
		e.create(task(ns, "finalized", func(t *v1.Task) { t.Finalizers = []string{"example.com/keep"} }))
		e.signed(ns, "finalized")
		e.check(cluster.Tekton.TektonV1().Tasks(ns).Delete(t.Context(), "finalized", metav1.DeleteOptions{}))
		e.patch(ns, "finalized", `{"metadata":{"annotations":{"changed":"while being deleted"}}}`)
		e.create(task(ns, "after-finalized"))
		e.signed(ns, "after-finalized") // whatever was queued before is done now
		if got := e.get(ns, "finalized"); harness.Verify(t.Context(), got, e.public) == nil {
			t.Error("it was signed again")
		}
		e.patch(ns, "finalized", `{"metadata":{"finalizers":null}}`)
		e.eventually(soon, func() error {
			_, err := cluster.Tekton.TektonV1().Tasks(ns).Get(t.Context(), "finalized", metav1.GetOptions{})
			if ignoreNotFound(err) != nil || err == nil {
				return fmt.Errorf("it is still there (%v)", err)
			}
			return nil
		})
	})

	for name, value := range map[string]string{"not base64": "%%%", "base64 of garbage": "Z2FyYmFnZQ=="} {
		t.Run("a signature that is "+name, func(t *testing.T) {
			e := e.in(t)
			resource := strings.ReplaceAll(name, " ", "-")
			e.create(task(ns, resource, func(t *v1.Task) { t.Annotations = map[string]string{trustedresources.SignatureAnnotation: value} }))
			e.signed(ns, resource)
		})
	}

	t.Run("a signature of another resource", func(t *testing.T) {
		e := e.in(t)
		e.create(task(ns, "original"))
		original := e.signed(ns, "original")
		e.create(task(ns, "copy", func(t *v1.Task) { t.Annotations = original.Annotations }))
		if got := e.signed(ns, "copy"); signature(got) == signature(original) {
			t.Error("the signature of the other resource was kept")
		}
	})

	t.Run("a copy in another namespace", func(t *testing.T) {
		e := e.in(t)
		elsewhere := e.namespace()
		e.create(task(ns, "source"))
		source := e.signed(ns, "source")
		e.create(task(elsewhere, "source", func(t *v1.Task) { t.Annotations = source.Annotations }))
		e.signed(elsewhere, "source")
	})

	t.Run("the other kinds", func(t *testing.T) {
		e := e.in(t)
		pipeline, err := cluster.Tekton.TektonV1().Pipelines(ns).Create(t.Context(), &v1.Pipeline{
			ObjectMeta: metav1.ObjectMeta{Name: "pipeline"},
			Spec:       v1.PipelineSpec{Tasks: []v1.PipelineTask{{Name: "a", TaskRef: &v1.TaskRef{Name: "plain"}}}},
		}, metav1.CreateOptions{})
		e.check(err)
		action, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Create(t.Context(), &v1beta1.StepAction{
			ObjectMeta: metav1.ObjectMeta{Name: "action"}, Spec: v1beta1.StepActionSpec{Image: "alpine", Script: "echo hello"},
		}, metav1.CreateOptions{})
		e.check(err)
		e.eventually(soon, func() error {
			got, err := cluster.Tekton.TektonV1().Pipelines(ns).Get(t.Context(), "pipeline", metav1.GetOptions{})
			if err != nil {
				return err
			}
			return harness.Verify(t.Context(), got, e.public)
		})
		e.eventually(soon, func() error {
			got, err := cluster.Tekton.TektonV1beta1().StepActions(ns).Get(t.Context(), "action", metav1.GetOptions{})
			if err != nil {
				return err
			}
			return harness.Verify(t.Context(), got, e.public)
		})
		e.event(pipeline, resources.ReasonSigned, keyID)
		e.event(action, resources.ReasonSigned, keyID)
	})

	// Last, so that all of the above has to stay quiet.
	t.Run("no hot loop", func(t *testing.T) { e.in(t).untouched(ns, 30*time.Second) })
}

// in is the same controller for a subtest.
func (e *env) in(t *testing.T) *env {
	sub := *e
	sub.T = t
	return &sub
}
