package resources

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	policyclient "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1alpha1"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	policyinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1alpha1/verificationpolicy"
	policylisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources/verifier"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	kubeclient "knative.dev/pkg/client/injection/kube/client"

	"github.com/trusted-resources/chains-extension/pkg/decision"
)

// policyAuthorities asks the VerificationPolicies of a namespace, through
// Tekton's own verifier.
type policyAuthorities struct {
	cached policylisters.VerificationPolicyLister
	live   policyclient.VerificationPoliciesGetter
	kube   kubernetes.Interface
}

var _ decision.Authorities = policyAuthorities{}

func newPolicyAuthorities(ctx context.Context) policyAuthorities {
	return policyAuthorities{
		cached: policyinformer.Get(ctx).Lister(), live: pipelineclient.Get(ctx).TektonV1alpha1(), kube: kubeclient.Get(ctx),
	}
}

// Verify implements decision.Authorities. A signature that nobody claims is
// about to be overwritten, so the answer "no" comes from the API server and
// not from the cache. An authority that no key can be made of never verified
// anything and is passed over; one whose key cannot be read now leaves the
// question open.
func (a policyAuthorities) Verify(ctx context.Context, namespace string, sig, message []byte) (bool, error) {
	cached, err := a.cached.VerificationPolicies(namespace).List(labels.Everything())
	if err != nil {
		return false, err
	}
	asked := map[types.UID]string{}
	verifies, unread := a.anyVerifies(ctx, cached, asked, sig, message)
	if verifies {
		return true, nil
	}
	list, err := a.live.VerificationPolicies(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	live := make([]*v1alpha1.VerificationPolicy, 0, len(list.Items))
	for i := range list.Items {
		live = append(live, &list.Items[i])
	}
	verifies, more := a.anyVerifies(ctx, live, asked, sig, message)
	if verifies {
		return true, nil
	}
	return false, errors.Join(unread, more)
}

// anyVerifies asks the policies that were not asked yet in their present
// version. The error lists the authorities that could not be read.
func (a policyAuthorities) anyVerifies(ctx context.Context, policies []*v1alpha1.VerificationPolicy, asked map[types.UID]string, sig, message []byte) (bool, error) {
	var unread []error
	for _, policy := range policies {
		if asked[policy.UID] == policy.ResourceVersion {
			continue
		}
		asked[policy.UID] = policy.ResourceVersion
		for _, authority := range policy.Spec.Authorities {
			verifies, err := a.verify(ctx, policy, authority, sig, message)
			if verifies {
				return true, nil
			}
			if err != nil && !malformed(err) {
				unread = append(unread, fmt.Errorf("VerificationPolicy %s/%s, authority %q: %w",
					policy.Namespace, policy.Name, authority.Name, err))
			}
		}
	}
	return false, errors.Join(unread...)
}

func (a policyAuthorities) verify(ctx context.Context, policy *v1alpha1.VerificationPolicy, authority v1alpha1.Authority, sig, message []byte) (bool, error) {
	if authority.Key == nil {
		return false, verifier.ErrEmptyKey // upstream would follow the nil pointer
	}
	alone := &v1alpha1.VerificationPolicy{ObjectMeta: policy.ObjectMeta}
	alone.Spec.Authorities = []v1alpha1.Authority{authority}
	verifiers, err := verifier.FromPolicy(ctx, a.kube, alone)
	if err != nil {
		return false, err
	}
	for _, v := range verifiers {
		if v.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
			return true, nil
		}
	}
	return false, nil
}

func malformed(err error) bool {
	for _, target := range []error{
		verifier.ErrEmptyKey, verifier.ErrAlgorithmInvalid, verifier.ErrDecodeKey, verifier.ErrLoadVerifier,
		verifier.ErrEmptySecretData, verifier.ErrMultipleSecretData,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
