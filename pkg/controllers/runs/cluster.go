package runs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	"github.com/tektoncd/pipeline/pkg/client/clientset/versioned"
	policylisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	resolution "github.com/tektoncd/pipeline/pkg/client/resolution/clientset/versioned/typed/resolution/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// liveObjects reads each object from the API server: the informers' caches hold no
// specs of the resources.
type liveObjects struct {
	client versioned.Interface
}

var _ dependencies.Objects = liveObjects{}

// Object implements dependencies.Objects.
func (o liveObjects) Object(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	if namespace == "" || name == "" {
		return nil, nil // a resolver may return an object without them
	}
	object, err := o.get(ctx, kind, namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return object, nil
}

func (o liveObjects) get(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	switch kind {
	case resource.Task:
		return o.client.TektonV1().Tasks(namespace).Get(ctx, name, metav1.GetOptions{})
	case resource.Pipeline:
		return o.client.TektonV1().Pipelines(namespace).Get(ctx, name, metav1.GetOptions{})
	case resource.StepAction:
		return o.client.TektonV1beta1().StepActions(namespace).Get(ctx, name, metav1.GetOptions{})
	}
	return nil, fmt.Errorf("objects of kind %q cannot be read", kind)
}

// requests reads ResolutionRequests one by one. They hold whole resources, so a
// cache of all of them would be large, and each is read about once.
type requests struct {
	resolution.ResolutionRequestsGetter
}

var _ dependencies.Requests = requests{}

// Request implements dependencies.Requests.
func (r requests) Request(ctx context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error) {
	return r.ResolutionRequests(namespace).Get(ctx, name, metav1.GetOptions{})
}

// registry returns the store of the current configuration, nil if there is none.
type registry func() *oci.Store

var _ dependencies.StoredSignatures = registry(nil)

// registryTimeout is how long an attestation waits for the registry.
const registryTimeout = 10 * time.Second

// Signature implements dependencies.StoredSignatures.
func (r registry) Signature(ctx context.Context, kind resource.Kind, namespace, name string, checksum []byte) (string, error) {
	store := r()
	if store == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	signature, err := store.Signature(ctx, oci.ID{Kind: kind, Namespace: namespace, Name: name}, checksum)
	if errors.Is(err, oci.ErrNotStored) {
		return "", nil
	}
	return resource.EncodeSignature(signature), err
}

// secrets reads Secrets one by one: to watch them, the controller would need the
// permission to list all of them.
type secrets struct{ corev1.SecretsGetter }

var _ policy.Secrets = secrets{}

// Secret implements policy.Secrets.
func (s secrets) Secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	secret, err := s.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return secret.Data, nil
}

// policies reads VerificationPolicies from the informer's cache.
type policies struct {
	policylisters.VerificationPolicyLister
}

var _ policy.Policies = policies{}

// Policies implements policy.Policies.
func (p policies) Policies(namespace string) ([]*v1alpha1.VerificationPolicy, error) {
	return p.VerificationPolicies(namespace).List(labels.Everything())
}
