package resources

import (
	"context"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	pipelineinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipeline"
	taskinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/task"
	stepactioninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1beta1/stepaction"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/storage/annotation"
)

// access is how resources of one kind are read and written.
type access struct {
	informer func(context.Context) cache.SharedIndexInformer
	patcher  func(context.Context) annotation.Patcher
}

var accessOf = map[resource.Kind]access{
	resource.Task: {
		informer: func(ctx context.Context) cache.SharedIndexInformer { return taskinformer.Get(ctx).Informer() },
		patcher: func(ctx context.Context) annotation.Patcher {
			return patcher[*v1.Task](func(namespace string) patchable[*v1.Task] {
				return pipelineclient.Get(ctx).TektonV1().Tasks(namespace)
			})
		},
	},
	resource.Pipeline: {
		informer: func(ctx context.Context) cache.SharedIndexInformer { return pipelineinformer.Get(ctx).Informer() },
		patcher: func(ctx context.Context) annotation.Patcher {
			return patcher[*v1.Pipeline](func(namespace string) patchable[*v1.Pipeline] {
				return pipelineclient.Get(ctx).TektonV1().Pipelines(namespace)
			})
		},
	},
	resource.StepAction: {
		informer: func(ctx context.Context) cache.SharedIndexInformer { return stepactioninformer.Get(ctx).Informer() },
		patcher: func(ctx context.Context) annotation.Patcher {
			return patcher[*v1beta1.StepAction](func(namespace string) patchable[*v1beta1.StepAction] {
				return pipelineclient.Get(ctx).TektonV1beta1().StepActions(namespace)
			})
		},
	},
}

// patchable is the part of Tekton's typed clients that is used here.
type patchable[T resource.Object] interface {
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (T, error)
}

// patcher adapts Tekton's client of one kind, given by namespace.
type patcher[T resource.Object] func(namespace string) patchable[T]

// Patch implements annotation.Patcher.
func (p patcher[T]) Patch(ctx context.Context, namespace, name string, mergePatch []byte) (resource.Object, error) {
	return p(namespace).Patch(ctx, name, types.MergePatchType, mergePatch, metav1.PatchOptions{FieldManager: config.Group})
}

// slim drops what we never read from the objects that a cache keeps. Neither
// takes part in the checksum.
func slim(item any) (any, error) {
	obj, ok := item.(metav1.Object)
	if !ok {
		return item, nil // a tombstone
	}
	obj.SetManagedFields(nil)
	if annotations := obj.GetAnnotations(); annotations != nil {
		delete(annotations, corev1.LastAppliedConfigAnnotation)
	}
	return item, nil
}
