package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources/verifier"
	"k8s.io/client-go/kubernetes"
)

func authorizes(ctx context.Context, kube kubernetes.Interface, policies []*v1alpha1.VerificationPolicy, sig, message []byte) (bool, error) {
	var unread []error
	for _, policy := range policies {
		for _, authority := range policy.Spec.Authorities {
			verifies, err := verify(ctx, kube, policy, authority, sig, message)
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

func verify(ctx context.Context, kube kubernetes.Interface, policy *v1alpha1.VerificationPolicy, authority v1alpha1.Authority, sig, message []byte) (bool, error) {
	if authority.Key == nil {
		return false, verifier.ErrEmptyKey // upstream would follow the nil pointer
	}
	alone := &v1alpha1.VerificationPolicy{ObjectMeta: policy.ObjectMeta}
	alone.Spec.Authorities = []v1alpha1.Authority{authority}
	verifiers, err := verifier.FromPolicy(ctx, kube, alone)
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
