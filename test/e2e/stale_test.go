// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/annotation"
)

type taskPatcher struct{}

func (taskPatcher) Patch(ctx context.Context, _ resource.Kind, namespace, name string, mergePatch []byte) (metav1.Object, error) {
	return cluster.Tekton.TektonV1().Tasks(namespace).Patch(ctx, name, types.MergePatchType, mergePatch, metav1.PatchOptions{})
}

// The API server rejects a signature of an older state, because the write carries the
// resourceVersion that was signed.
func TestAnnotationStore_RejectsOlderState(t *testing.T) {
	e := &env{t: t}
	ns := e.namespaceLabelled(nil)
	older := e.createTask(newTask(ns, "moving"))
	e.patchTask(ns, "moving", `{"spec":{"description":"newer"}}`)

	_, err := annotation.Put(t.Context(), taskPatcher{}, e.summarize(older), []byte("signature of the older state"))
	if !apierrors.IsConflict(err) {
		t.Errorf("storing the signature of an older state: got error %v, want a conflict", err)
	}
	newer := e.getTask(ns, "moving")
	if signature(newer) != "" {
		t.Error("the newer state carries the signature of the older one")
	}

	stored, err := annotation.Put(t.Context(), taskPatcher{}, e.summarize(newer), []byte("signature"))
	e.check(err)
	if signature(stored) != resource.EncodeSignature([]byte("signature")) || stored.(*v1.Task).Spec.Description != "newer" {
		t.Errorf("got %+v, want the newer state with the signature", stored)
	}
}

func (e *env) summarize(obj resource.Object) *resource.Summary {
	e.t.Helper()
	summary, err := resource.Summarize(e.t.Context(), obj)
	e.check(err)
	return summary
}
