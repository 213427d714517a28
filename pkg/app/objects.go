package app

import (
	"context"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// objects reads resources from the API server: the informer caches hold summaries
// only.
type objects struct{ client versioned.Interface }

func liveObjects(ctx context.Context) objects { return objects{pipelineclient.Get(ctx)} }

// Object returns a resource as the API server has it now, or nil if there is none.
func (o objects) Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	object, err := o.get(ctx, kind, namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	return object, nil
}

func (o objects) get(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	switch kind {
	case resource.Task:
		return o.client.TektonV1().Tasks(namespace).Get(ctx, name, metav1.GetOptions{})
	case resource.Pipeline:
		return o.client.TektonV1().Pipelines(namespace).Get(ctx, name, metav1.GetOptions{})
	case resource.StepAction:
		return o.client.TektonV1beta1().StepActions(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return nil, fmt.Errorf("kind %q is not signable", kind)
}
