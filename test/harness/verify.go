// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"crypto"
	"fmt"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/trustedresources"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Resource reads a resource of a signable kind, in the API version that is signed.
func (c *Cluster) Resource(ctx context.Context, kind resource.Kind, namespace, name string) (resource.Object, error) {
	switch kind {
	case resource.Pipeline:
		return c.Tekton.TektonV1().Pipelines(namespace).Get(ctx, name, metav1.GetOptions{})
	case resource.StepAction:
		return c.Tekton.TektonV1beta1().StepActions(namespace).Get(ctx, name, metav1.GetOptions{})
	case resource.Task:
	}
	return c.Tekton.TektonV1().Tasks(namespace).Get(ctx, name, metav1.GetOptions{})
}

// DeleteResource deletes a resource of a signable kind.
func (c *Cluster) DeleteResource(ctx context.Context, kind resource.Kind, namespace, name string) error {
	switch kind {
	case resource.Pipeline:
		return c.Tekton.TektonV1().Pipelines(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	case resource.StepAction:
		return c.Tekton.TektonV1beta1().StepActions(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	case resource.Task:
	}
	return c.Tekton.TektonV1().Tasks(namespace).Delete(ctx, name, metav1.DeleteOptions{})
}

// Verify verifies a resource with Tekton's own verifier, as Tekton's reconcilers do, with
// an enforce policy that trusts one key.
func Verify(ctx context.Context, obj resource.Object, public crypto.PublicKey) error {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(public)
	if err != nil {
		return err
	}
	defaulted, ok := obj.DeepCopyObject().(resource.Object)
	if !ok {
		return fmt.Errorf("the copy of a %T is not a resource.Object", obj)
	}
	defaulted.SetDefaults(ctx)
	ctx = logging.WithLogger(ctx, zap.NewNop().Sugar()) // the verifier logs a warning for each missing signature
	result := trustedresources.VerifyResource(ctx, defaulted, nil, nil, []*v1alpha1.VerificationPolicy{{
		Spec: v1alpha1.VerificationPolicySpec{
			Resources:   []v1alpha1.ResourcePattern{{Pattern: ".*"}},
			Authorities: []v1alpha1.Authority{{Name: "key", Key: &v1alpha1.KeyRef{Data: string(pem)}}},
			Mode:        v1alpha1.ModeEnforce,
		},
	}})
	if result.VerificationResultType != trustedresources.VerificationPass {
		return fmt.Errorf("%s/%s: Tekton's verifier does not accept it: %w", obj.GetNamespace(), obj.GetName(), result.Err)
	}
	return nil
}
