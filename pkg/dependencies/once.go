// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"sync"

	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

type objectKey struct {
	kind            resource.Kind
	namespace, name string
}

// objectsOnce reads each object once.
type objectsOnce struct {
	from Objects
	once[objectKey, resource.Object]
}

// Object implements Objects.
func (o *objectsOnce) Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	return o.get(objectKey{kind, namespace, name}, func() (resource.Object, error) { return o.from.Object(ctx, kind, namespace, name) })
}

type requestKey struct{ namespace, name string }

// requestsOnce reads each ResolutionRequest once.
type requestsOnce struct {
	from Requests
	once[requestKey, *v1beta1.ResolutionRequest]
}

// Request implements Requests.
func (r *requestsOnce) Request(ctx context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error) {
	return r.get(requestKey{namespace, name}, func() (*v1beta1.ResolutionRequest, error) { return r.from.Request(ctx, namespace, name) })
}

// once keeps the first result for each key, errors included. Tekton's functions
// read StepActions from several goroutines.
type once[Key comparable, Value any] struct {
	mu      sync.Mutex
	results map[Key]result[Value]
}

type result[Value any] struct {
	value Value
	err   error
}

func (o *once[Key, Value]) get(key Key, read func() (Value, error)) (Value, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept, found := o.results[key]
	if !found {
		if o.results == nil {
			o.results = map[Key]result[Value]{}
		}
		kept.value, kept.err = read()
		o.results[key] = kept
	}
	return kept.value, kept.err
}
