// SPDX-License-Identifier: Apache-2.0

package dependencies

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	"github.com/tektoncd/pipeline/pkg/remote/resolution"
	remote "github.com/tektoncd/pipeline/pkg/remoteresolution/resource"
	"github.com/tektoncd/pipeline/pkg/resolution/common"
	requests "github.com/tektoncd/pipeline/pkg/resolution/resource"
	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// MaxContent is the largest content of a ResolutionRequest that is decoded, in
// bytes of base64. It is larger than the limit of etcd's default configuration.
const MaxContent = 4 << 20

// resolvedObject is an object that a resolver returned.
type resolvedObject struct {
	object resource.Object
	source v1.RefSource
}

// request returns the object that a resolver returned for the run. recorded is
// the source in the status of the run, nil if the status has none.
func (c *collection) request(ctx context.Context, name string, kind resource.Kind, recorded *v1.RefSource) (*resolvedObject, error) {
	if name == "" {
		return nil, fmt.Errorf("%w: the parameters of a reference make more than %d bytes", errSubstitution, maxSubstitution)
	}
	request, err := c.Requests.Request(ctx, c.run.GetNamespace(), name)
	if err != nil {
		return nil, fmt.Errorf("ResolutionRequest %s/%s: %w", c.run.GetNamespace(), name, err)
	}
	return c.readRequest(ctx, request, kind, recorded)
}

// decodes bounds the elements of all content that this process decodes at a time.
var decodes = semaphore.NewWeighted(resource.MaxElements)

func (c *collection) readRequest(ctx context.Context, request *v1beta1.ResolutionRequest, kind resource.Kind, recorded *v1.RefSource) (*resolvedObject, error) {
	if err := c.checkRequest(request, recorded); err != nil {
		return nil, fmt.Errorf("ResolutionRequest %s %w", request.Name, err)
	}
	decoded, err := decode(ctx, requests.CrdIntoResource(request))
	if err != nil {
		return nil, fmt.Errorf("ResolutionRequest %s: %w", request.Name, err)
	}
	object, ok := decoded.(resource.Object)
	if !ok {
		return nil, fmt.Errorf("ResolutionRequest %s holds a %T, which cannot be signed", request.Name, decoded)
	}
	// The source does not name the kind: a bundle may hold a Task and a Pipeline
	// with the same name.
	if found := resource.KindOf(object); found != kind {
		return nil, fmt.Errorf("ResolutionRequest %s holds a %s, expected a %s", request.Name, found, kind)
	}
	return &resolvedObject{object: object, source: *request.Status.RefSource}, nil
}

// decode returns the object in a request. It uses Tekton's own decoder.
func decode(ctx context.Context, request common.ResolvedResource) (runtime.Object, error) {
	content, err := request.Data()
	if err != nil {
		return nil, err
	}
	elements, err := resource.Elements(content)
	if err != nil {
		return nil, err
	}
	if err := decodes.Acquire(ctx, int64(elements)); err != nil {
		return nil, err
	}
	defer decodes.Release(int64(elements))
	if err := resource.CheckContent(content, elements); err != nil {
		return nil, err
	}
	decoded, _, err := resolution.ResolvedRequest(request, nil)
	return decoded, err
}

// checkRequest returns an error unless the request shows what Tekton resolved
// for the run.
func (c *collection) checkRequest(request *v1beta1.ResolutionRequest, recorded *v1.RefSource) error {
	owned := slices.ContainsFunc(request.OwnerReferences, func(owner metav1.OwnerReference) bool {
		return slices.Contains(c.owners, owner.UID)
	})
	switch {
	case !owned:
		return errors.New("belongs to another run")
	case !request.Status.GetCondition(apis.ConditionSucceeded).IsTrue():
		return errors.New("did not succeed")
	case request.Status.RefSource == nil:
		return errors.New("names no source")
	case recorded != nil && !equality.Semantic.DeepEqual(recorded, request.Status.RefSource):
		return errors.New("names another source than the run")
	case len(request.Status.Data) > MaxContent:
		return fmt.Errorf("holds %d bytes, expected at most %d", len(request.Status.Data), MaxContent)
	}
	return nil
}

var _ remote.Requester = (*collection)(nil)

// Submit implements remote.Requester for a replay: it answers Tekton's functions
// with the StepAction that was resolved for the run.
func (c *collection) Submit(ctx context.Context, _ remote.ResolverName, request remote.Request) (remote.ResolvedResource, error) {
	found, err := c.Requests.Request(ctx, c.run.GetNamespace(), request.ResolverPayload().Name)
	if err != nil {
		return nil, err
	}
	if _, err := c.readRequest(ctx, found, resource.StepAction, nil); err != nil {
		return nil, err
	}
	return requests.CrdIntoResource(found), nil
}
