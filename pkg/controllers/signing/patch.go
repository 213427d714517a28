package signing

import (
	"context"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/annotation"
)

// patcherOf are the writers of resources by kind.
var patcherOf = map[resource.Kind]func(context.Context) annotation.Patcher{
	resource.Task: func(ctx context.Context) annotation.Patcher {
		return patcher[*v1.Task](func(namespace string) patchable[*v1.Task] {
			return pipelineclient.Get(ctx).TektonV1().Tasks(namespace)
		})
	},
	resource.Pipeline: func(ctx context.Context) annotation.Patcher {
		return patcher[*v1.Pipeline](func(namespace string) patchable[*v1.Pipeline] {
			return pipelineclient.Get(ctx).TektonV1().Pipelines(namespace)
		})
	},
	resource.StepAction: func(ctx context.Context) annotation.Patcher {
		return patcher[*v1beta1.StepAction](func(namespace string) patchable[*v1beta1.StepAction] {
			return pipelineclient.Get(ctx).TektonV1beta1().StepActions(namespace)
		})
	},
}

// patchable is the part of Tekton's typed clients that writes annotations.
type patchable[T resource.Object] interface {
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (T, error)
}

// patcher returns Tekton's client of one kind for a namespace.
type patcher[T resource.Object] func(namespace string) patchable[T]

// Patch implements annotation.Patcher.
func (p patcher[T]) Patch(ctx context.Context, namespace, name string, mergePatch []byte) (resource.Object, error) {
	return p(namespace).Patch(ctx, name, types.MergePatchType, mergePatch, metav1.PatchOptions{FieldManager: v1alpha1.Group})
}
