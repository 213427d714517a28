// SPDX-License-Identifier: Apache-2.0

// Package offline provides a Tekton clientset that never talks to a server. The
// replay of a run gives it to Tekton's own functions, which demand a clientset.
package offline

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync"

	pipelinev1beta1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	typedv1beta1 "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// ErrOffline means that the caller used a method of the clientset that a replay
// does not need.
var ErrOffline = errors.New("a replay makes no requests to the API server")

// StepActions reads the StepActions that a replay uses.
type StepActions interface {
	// StepAction returns nil if there is no such StepAction.
	StepAction(ctx context.Context, namespace, name string) (*pipelinev1beta1.StepAction, error)
}

// NewClientset returns a clientset that gets StepActions from the given reader.
// It answers a dry run of their creation, which Tekton uses to validate a resolved
// StepAction, without storing anything. Every other request returns ErrOffline.
func NewClientset(stepActions StepActions) (versioned.Interface, error) {
	refusing, err := refusingClientset()
	if err != nil {
		return nil, fmt.Errorf("offline clientset: %w", err)
	}
	return clientset{Interface: refusing, stepActions: stepActions}, nil
}

// refusingClientset returns a real clientset that sends each request to a
// transport that refuses it. It is made once: it has no state.
var refusingClientset = sync.OnceValues(func() (*versioned.Clientset, error) {
	return versioned.NewForConfigAndClient(&rest.Config{Host: "offline.invalid", QPS: -1}, &http.Client{Transport: refusingTransport{}})
})

// refusingTransport refuses each request before it reaches a network.
type refusingTransport struct{}

// RoundTrip implements http.RoundTripper.
func (refusingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("%w: %s %s", ErrOffline, r.Method, r.URL.Path)
}

// clientset, pipelineV1beta1 and stepActionClient override two methods of a real
// clientset. The transport below refuses the requests of all other methods.
type clientset struct {
	versioned.Interface
	stepActions StepActions
}

func (c clientset) TektonV1beta1() typedv1beta1.TektonV1beta1Interface {
	return pipelineV1beta1{TektonV1beta1Interface: c.Interface.TektonV1beta1(), stepActions: c.stepActions}
}

type pipelineV1beta1 struct {
	typedv1beta1.TektonV1beta1Interface
	stepActions StepActions
}

func (p pipelineV1beta1) StepActions(namespace string) typedv1beta1.StepActionInterface {
	return stepActionClient{
		StepActionInterface: p.TektonV1beta1Interface.StepActions(namespace),
		stepActions:         p.stepActions, namespace: namespace,
	}
}

type stepActionClient struct {
	typedv1beta1.StepActionInterface
	stepActions StepActions
	namespace   string
}

// Get implements typedv1beta1.StepActionInterface.
func (c stepActionClient) Get(ctx context.Context, name string, _ metav1.GetOptions) (*pipelinev1beta1.StepAction, error) {
	stepAction, err := c.stepActions.StepAction(ctx, c.namespace, name)
	if err != nil {
		return nil, err
	}
	if stepAction == nil {
		return nil, apierrors.NewNotFound(pipelinev1beta1.Resource("stepactions"), name)
	}
	if err := validateParamNames(stepAction); err != nil {
		return nil, err
	}
	return stepAction.DeepCopy(), nil
}

// Create implements typedv1beta1.StepActionInterface.
func (c stepActionClient) Create(ctx context.Context, stepAction *pipelinev1beta1.StepAction, opts metav1.CreateOptions) (*pipelinev1beta1.StepAction, error) {
	if len(opts.DryRun) == 0 {
		return nil, fmt.Errorf("%w: creation of StepAction %s/%s", ErrOffline, c.namespace, stepAction.Name)
	}
	if err := validateParamNames(stepAction); err != nil {
		return nil, err
	}
	created := stepAction.DeepCopy()
	created.SetDefaults(ctx)
	return created, nil
}

// paramName is the pattern of parameter names that Tekton's webhook accepts.
var paramName = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9.-]*$`)

// validateParamNames refuses names that Tekton's webhook refuses. Tekton's
// functions make regular expressions of the names, and panic in a goroutine of
// their own, which no caller can recover.
func validateParamNames(stepAction *pipelinev1beta1.StepAction) error {
	for _, param := range stepAction.Spec.Params {
		if !paramName.MatchString(param.Name) {
			return fmt.Errorf("StepAction %s has a parameter with the name %q, expected a name that matches %s", stepAction.Name, param.Name, paramName)
		}
	}
	return nil
}
