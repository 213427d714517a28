// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	knative "knative.dev/pkg/webhook"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// path is that of all requests of the API server.
const path = "/mutate"

// Rights answers whether the user of a request has the right to sign what is written.
type Rights interface {
	MaySign(ctx context.Context, request *admissionv1.AdmissionRequest) (bool, error)
}

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// mutator answers the requests of the API server.
type mutator struct {
	// config returns nil while there is no usable configuration.
	config  func() *config.Config
	rights  Rights
	emitter Emitter
}

var _ knative.AdmissionController = (*mutator)(nil)

// Path implements knative's AdmissionController.
func (*mutator) Path() string { return path }

// Admit implements knative's AdmissionController. A request that cannot be answered is
// refused.
func (m *mutator) Admit(ctx context.Context, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	var a answer
	err := observe.Guard(func() (err error) {
		a, err = m.answer(ctx, request)
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s %s/%s: %w", request.Resource.Resource, request.Namespace, request.Name, err)
	}
	return a.response(err)
}

func (m *mutator) answer(ctx context.Context, request *admissionv1.AdmissionRequest) (answer, error) {
	about := schema.GroupResource{Group: request.Resource.Group, Resource: request.Resource.Resource}
	switch about {
	case pipeline.TaskRunResource:
		return rewrite(request, "taskRef", resource.Task.ConfigName())
	case pipeline.PipelineRunResource:
		return rewrite(request, "pipelineRef", resource.Pipeline.ConfigName())
	case corev1.Resource("pods"):
		return hold(request)
	case pipeline.TaskResource, pipeline.PipelineResource, pipeline.StepActionResource:
		if c := m.config(); c != nil && c.Requester == config.RequesterOff {
			return answer{}, nil // the API server does not know yet
		}
		return m.record(ctx, request)
	default:
		return answer{}, fmt.Errorf("the webhook was called for %s; see the rules of the MutatingWebhookConfiguration %s", about, registrationName)
	}
}
