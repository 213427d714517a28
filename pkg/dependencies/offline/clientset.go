package dependencies

import (
	"context"
	"fmt"
	"regexp"

	pipelinev1beta1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	typedv1beta1 "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1beta1"
	remote "github.com/tektoncd/pipeline/pkg/remoteresolution/resource"
	requests "github.com/tektoncd/pipeline/pkg/resolution/resource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// cluster is the cluster as Tekton's functions may see it in a replay: they
// get StepActions, and "create" resolved ones as a dry run to have them
// validated, which is not repeated. Everything else is nil.
type cluster struct {
	versioned.Interface
	objects Objects
}

func (c cluster) TektonV1beta1() typedv1beta1.TektonV1beta1Interface { return beta{objects: c.objects} }

type beta struct {
	typedv1beta1.TektonV1beta1Interface
	objects Objects
}

func (b beta) StepActions(namespace string) typedv1beta1.StepActionInterface {
	return stepActions{objects: b.objects, namespace: namespace}
}

type stepActions struct {
	typedv1beta1.StepActionInterface
	objects   Objects
	namespace string
}

func (s stepActions) Get(_ context.Context, name string, _ metav1.GetOptions) (*pipelinev1beta1.StepAction, error) {
	object, err := s.objects.Object(resource.StepAction, s.namespace, name)
	if err != nil {
		return nil, err
	}
	stepAction, ok := object.(*pipelinev1beta1.StepAction)
	if !ok {
		return nil, apierrors.NewNotFound(pipelinev1beta1.Resource("stepactions"), name)
	}
	return stepAction.DeepCopy(), admit(stepAction)
}

func (s stepActions) Create(ctx context.Context, stepAction *pipelinev1beta1.StepAction, _ metav1.CreateOptions) (*pipelinev1beta1.StepAction, error) {
	stepAction.SetDefaults(ctx)
	return stepAction, admit(stepAction)
}

// paramName is what Tekton's webhook takes for the name of a parameter.
var paramName = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9.-]*$`)

// admit refuses what the webhook would, as far as Tekton relies on it: it makes
// regular expressions of these names, and panics if they are none. It does so
// in a goroutine of its own, where nobody can recover.
func admit(stepAction *pipelinev1beta1.StepAction) error {
	for _, param := range stepAction.Spec.Params {
		if !paramName.MatchString(param.Name) {
			return fmt.Errorf("StepAction %s has a parameter of the name %q", stepAction.Name, param.Name)
		}
	}
	return nil
}

// requester answers Tekton's functions with what was resolved for the run.
type requester struct {
	c *Collector
	r run
}

var _ remote.Requester = requester{}

// Submit implements remote.Requester.
func (r requester) Submit(ctx context.Context, _ remote.ResolverName, request remote.Request) (remote.ResolvedResource, error) {
	found, err := r.c.Requests.Request(ctx, r.r.GetNamespace(), request.ResolverPayload().Name)
	if err != nil {
		return nil, err
	}
	if _, missing := readRequest(r.r, found, resource.StepAction, nil); missing != nil {
		return nil, missing
	}
	return requests.CrdIntoResource(found), nil
}
