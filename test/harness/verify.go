package harness

import (
	"context"
	"crypto"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"go.uber.org/zap"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Verify asks Tekton's own verifier, as its reconcilers do, under an enforce
// policy that trusts one key.
func Verify(ctx context.Context, obj resource.Object, public crypto.PublicKey) error {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
	if err != nil {
		return err
	}
	defaulted, ok := obj.DeepCopyObject().(resource.Object)
	if !ok {
		return fmt.Errorf("a copy of %T is something else", obj)
	}
	defaulted.SetDefaults(ctx)
	ctx = logging.WithLogger(ctx, zap.NewNop().Sugar()) // it warns of each signature that is not there yet
	result := trustedresources.VerifyResource(ctx, defaulted, nil, nil, []*v1alpha1.VerificationPolicy{{
		Spec: v1alpha1.VerificationPolicySpec{
			Resources:   []v1alpha1.ResourcePattern{{Pattern: ".*"}},
			Authorities: []v1alpha1.Authority{{Name: "key", Key: &v1alpha1.KeyRef{Data: string(pem)}}},
			Mode:        v1alpha1.ModeEnforce,
		},
	}})
	if result.VerificationResultType != trustedresources.VerificationPass {
		return fmt.Errorf("%s/%s: Tekton's verifier says: %w", obj.GetNamespace(), obj.GetName(), result.Err)
	}
	return nil
}
