package resources

import (
	"context"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	policyclient "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1alpha1"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	policyinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1alpha1/verificationpolicy"
	policylisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/utils/clock"
	kubeclient "knative.dev/pkg/client/injection/kube/client"

	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// policyAuthorities finds authorities in the VerificationPolicies of a namespace.
type policyAuthorities struct {
	cached policylisters.VerificationPolicyLister
	live   policyclient.VerificationPoliciesGetter
	keys   *policy.Keys
}

var _ decision.Authorities = policyAuthorities{}

func newPolicyAuthorities(ctx context.Context) policyAuthorities {
	return policyAuthorities{
		cached: policyinformer.Get(ctx).Lister(),
		live:   pipelineclient.Get(ctx).TektonV1alpha1(),
		keys:   policy.NewKeys(secrets{kubeclient.Get(ctx).CoreV1()}, clock.RealClock{}),
	}
}

// Verify implements decision.Authorities. After the answer false the signature is
// overwritten, so that answer comes from policies and keys that are read from the
// API server now. The other answers may come from the caches.
func (a policyAuthorities) Verify(ctx context.Context, namespace string, sig, message []byte) (bool, error) {
	cached, err := a.cached.VerificationPolicies(namespace).List(labels.Everything())
	if err != nil {
		return false, err
	}
	verifies, err := policy.NewSet(cached, a.keys).Authorizes(ctx, sig, message)
	if verifies || err != nil {
		return verifies, err
	}
	list, err := a.live.VerificationPolicies(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	live := make([]*v1alpha1.VerificationPolicy, 0, len(list.Items))
	for i := range list.Items {
		live = append(live, &list.Items[i])
	}
	return policy.NewSet(live, a.keys.Fresh()).Authorizes(ctx, sig, message)
}

// secrets reads Secrets from the API server.
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
