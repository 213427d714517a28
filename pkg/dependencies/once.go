// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

type objectKey struct {
	kind            resource.Kind
	namespace, name string
}

// Bounds of what the report on one run keeps, in bytes. All workers may have a
// report in progress.
const (
	maxObjects  = 6 << 20
	maxRequests = 4 << 20
)

// maxDependencies bounds the dependencies of a report, except that each TaskRun
// has at least one.
const maxDependencies = 2_000

// objectsOnce reads each object once. It is shared by all that a report is about,
// so that it also counts the dependencies.
type objectsOnce struct {
	from Objects
	once[objectKey, resource.Object]
	dependencies int
}

func newObjectsOnce(from Objects) *objectsOnce {
	return &objectsOnce{from: from, once: once[objectKey, resource.Object]{max: maxObjects}}
}

// count adds dependencies to those of the report. It returns an error if they are
// too many.
func (o *objectsOnce) count(dependencies int) error {
	if o.dependencies += dependencies; o.dependencies > maxDependencies {
		return fmt.Errorf("the run depends on more than %d resources", maxDependencies)
	}
	return nil
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

func newRequestsOnce(from Requests) *requestsOnce {
	return &requestsOnce{from: from, once: once[requestKey, *v1beta1.ResolutionRequest]{max: maxRequests}}
}

// Request implements Requests.
func (r *requestsOnce) Request(ctx context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error) {
	return r.get(requestKey{namespace, name}, func() (*v1beta1.ResolutionRequest, error) { return r.from.Request(ctx, namespace, name) })
}

// once keeps the first result for each key, errors included. Tekton's functions
// read StepActions from several goroutines. Values that take more than max bytes
// in all are not kept, and not read any more.
type once[Key comparable, Value any] struct {
	max int

	mu      sync.Mutex
	results map[Key]result[Value]
	bytes   int
}

type result[Value any] struct {
	value Value
	err   error
}

func (o *once[Key, Value]) get(key Key, read func() (Value, error)) (Value, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept, found := o.results[key]
	if found {
		return kept.value, kept.err
	}
	if o.bytes <= o.max {
		kept.value, kept.err = read()
		o.bytes += memoryOf(kept.value)
	}
	if o.bytes > o.max {
		kept = result[Value]{err: fmt.Errorf("the content for one run takes %d bytes, expected at most %d", o.bytes, o.max)}
	}
	if o.results == nil {
		o.results = map[Key]result[Value]{}
	}
	o.results[key] = kept
	return kept.value, kept.err
}

// memoryOf returns about the bytes that a value takes.
func memoryOf(value any) (bytes int) {
	eachText(reflect.ValueOf(value), func(text string) { bytes += len(text) + textOverhead })
	return bytes
}
