// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"fmt"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// asTask returns an object that a resolver returned as the Task that Tekton runs.
func asTask(ctx context.Context, object resource.Object) (*v1.Task, error) {
	if task, ok := object.(*v1.Task); ok {
		return task, nil
	}
	return converted(ctx, object, &v1.Task{})
}

func asPipeline(ctx context.Context, object resource.Object) (*v1.Pipeline, error) {
	if pipeline, ok := object.(*v1.Pipeline); ok {
		return pipeline, nil
	}
	return converted(ctx, object, &v1.Pipeline{})
}

func converted[To apis.Convertible](ctx context.Context, object resource.Object, to To) (To, error) {
	from, ok := object.(apis.Convertible)
	if !ok {
		return to, fmt.Errorf("a %T cannot be converted to a %T", object, to)
	}
	return to, from.ConvertTo(ctx, to)
}
