package environment

import (
	"context"

	pipelineinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipeline"
	taskinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/task"
	stepactioninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1beta1/stepaction"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Informer is the cache of the resources of one kind.
func Informer(ctx context.Context, kind resource.Kind) cache.SharedIndexInformer {
	switch kind {
	case resource.Task:
		return taskinformer.Get(ctx).Informer()
	case resource.Pipeline:
		return pipelineinformer.Get(ctx).Informer()
	case resource.StepAction:
		return stepactioninformer.Get(ctx).Informer()
	}
	return nil
}

// slimInformers makes the caches of all kinds keep only what we read. It must
// run before they start.
func slimInformers(ctx context.Context) {
	for _, kind := range resource.Kinds {
		if err := Informer(ctx, kind).SetTransform(slim); err != nil {
			logging.FromContext(ctx).Fatalw("Cannot set up the cache", "kind", kind, zap.Error(err))
		}
	}
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
