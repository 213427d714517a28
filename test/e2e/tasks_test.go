// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// newTask returns a valid Task, changed by the modifiers.
func newTask(namespace, name string, modifiers ...func(*v1.Task)) *v1.Task {
	t := &v1.Task{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1.TaskSpec{Steps: []v1.Step{{Name: "hello", Image: "alpine", Script: "echo hello"}}},
	}
	for _, modify := range modifiers {
		modify(t)
	}
	return t
}

// garbage is no signature of any key.
var garbage = resource.EncodeSignature([]byte("garbage"))

func withGarbage(t *v1.Task) {
	t.Annotations = map[string]string{trustedresources.SignatureAnnotation: garbage}
}

func (e *env) createTask(t *v1.Task) *v1.Task {
	e.t.Helper()
	created, err := cluster.Tekton.TektonV1().Tasks(t.Namespace).Create(e.t.Context(), t, metav1.CreateOptions{})
	e.check(err)
	return created
}

func (e *env) getTask(namespace, name string) *v1.Task {
	e.t.Helper()
	t, err := cluster.Tekton.TektonV1().Tasks(namespace).Get(e.t.Context(), name, metav1.GetOptions{})
	e.check(err)
	return t
}

// patchTask applies a JSON merge patch to a Task.
func (e *env) patchTask(namespace, name, mergePatch string) {
	e.t.Helper()
	_, err := cluster.Tekton.TektonV1().Tasks(namespace).Patch(e.t.Context(), name, types.MergePatchType, []byte(mergePatch), metav1.PatchOptions{})
	e.check(err)
}

// kubectlApply runs kubectl apply with a manifest and returns its output.
func (e *env) kubectlApply(manifest string, args ...string) string {
	e.t.Helper()
	out, err := cluster.RunKubectl(e.t.Context(), manifest, append([]string{"apply", "-f", "-"}, args...)...)
	e.check(err)
	return out
}

func signature(obj metav1.Object) string {
	return obj.GetAnnotations()[trustedresources.SignatureAnnotation]
}
