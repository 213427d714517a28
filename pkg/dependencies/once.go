package dependencies

import (
	"context"
	"sync"

	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// snapshot reads each thing once, so that what is replayed is what the content
// was taken from, whatever happens in the cluster meanwhile.
func (c *Collector) snapshot() *Collector {
	return &Collector{
		Objects:  &objectsOnce{from: c.Objects},
		Requests: &requestsOnce{from: c.Requests},
		History:  c.History,
		Stored:   c.Stored,
	}
}

type objectKey struct {
	kind            resource.Kind
	namespace, name string
}

type objectsOnce struct {
	from Objects
	once[objectKey, resource.Object]
}

// Object implements Objects.
func (o *objectsOnce) Object(kind resource.Kind, namespace, name string) (resource.Object, error) {
	return o.get(objectKey{kind, namespace, name}, func() (resource.Object, error) { return o.from.Object(kind, namespace, name) })
}

type requestKey struct{ namespace, name string }

type requestsOnce struct {
	from Requests
	once[requestKey, *v1beta1.ResolutionRequest]
}

// Request implements Requests.
func (r *requestsOnce) Request(ctx context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error) {
	return r.get(requestKey{namespace, name}, func() (*v1beta1.ResolutionRequest, error) { return r.from.Request(ctx, namespace, name) })
}

// once remembers answers. Tekton asks for StepActions from several goroutines.
type once[Key comparable, Value any] struct {
	mu    sync.Mutex
	known map[Key]answer[Value]
}

type answer[Value any] struct {
	value Value
	err   error
}

func (o *once[Key, Value]) get(key Key, ask func() (Value, error)) (Value, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a, found := o.known[key]
	if !found {
		if o.known == nil {
			o.known = map[Key]answer[Value]{}
		}
		a.value, a.err = ask()
		o.known[key] = a
	}
	return a.value, a.err
}
