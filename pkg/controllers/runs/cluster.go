package runs

import (
	"context"
	"errors"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	policylisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	resolution "github.com/tektoncd/pipeline/pkg/client/resolution/clientset/versioned/typed/resolution/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// requests reads ResolutionRequests one by one: they hold whole resources, so
// that a cache of all of them would be large, and each is asked for about once.
type requests struct {
	resolution.ResolutionRequestsGetter
}

var _ dependencies.Requests = requests{}

// Request implements dependencies.Requests.
func (r requests) Request(ctx context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error) {
	return r.ResolutionRequests(namespace).Get(ctx, name, metav1.GetOptions{})
}

// registries asks the registry that the configuration names, if any.
type registries func() *oci.Store

var _ dependencies.Stored = registries(nil)

// registryTimeout bounds one question: an attestation does not wait for a
// registry that is away.
const registryTimeout = 10 * time.Second

// Signature implements dependencies.Stored.
func (r registries) Signature(ctx context.Context, kind resource.Kind, namespace, name string, checksum []byte) (string, error) {
	store := r()
	if store == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	signature, err := store.Signature(ctx, oci.ID{Kind: kind, Namespace: namespace, Name: name}, checksum)
	if errors.Is(err, oci.ErrNotFound) {
		return "", nil
	}
	return resource.EncodeSignature(signature), err
}

// secrets reads Secrets one by one: watching them would take the right to list
// them all.
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

// policies are the VerificationPolicies that the controller watches anyway.
type policies struct {
	policylisters.VerificationPolicyLister
}

var _ policy.Policies = policies{}

// Policies implements policy.Policies.
func (p policies) Policies(namespace string) ([]*v1alpha1.VerificationPolicy, error) {
	return p.VerificationPolicies(namespace).List(labels.Everything())
}
