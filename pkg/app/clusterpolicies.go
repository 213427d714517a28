// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"slices"

	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/utils/clock"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/client"
	"github.com/trusted-resources/chains-extension/pkg/controllers/clusterpolicies"
	"github.com/trusted-resources/chains-extension/pkg/controllers/inforce"
	"github.com/trusted-resources/chains-extension/pkg/controllers/materializing"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// trustedKeys returns the public keys in PEM that "keyRing: active" stands for in a namespace
// with these labels: without a KeyRing, those of the signing secret.
func trustedKeys(keyRings *rings.Rings, legacy func() *keys.Ring, namespace map[string]string) ([]string, error) {
	trusted, served, err := keyRings.Trusted(namespace)
	if err != nil || served {
		return trusted, err
	}
	for _, key := range legacy().Keys() {
		encoded, err := key.PEM()
		if err != nil {
			return nil, err
		}
		trusted = append(trusted, encoded)
	}
	return trusted, nil
}

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

func clusterPoliciesController(ctx context.Context, s *shared) (*controller.Impl, error) {
	config, kube := injection.GetConfig(ctx), kubeclient.Get(ctx)
	policies, err := client.NewClusterPolicies(config)
	if err != nil {
		return nil, err
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return clusterpolicies.NewController(ctx, clusterpolicies.Inputs{
		Client: policies, Kube: kube, Namespaces: s.watched.Namespaces().Lister(),
		Definition: func(ctx context.Context) (metav1.Object, error) {
			return objects.Resource(definitions).Get(ctx, "clusterverificationpolicies."+v1alpha1.Group, metav1.GetOptions{})
		},
		Keys:     &clusterpolicies.Keys{Namespace: system.Namespace(), Secrets: secrets{kube.CoreV1()}, Clock: clock.RealClock{}, KMSRequested: s.state.KMSRequested},
		Followed: s.policies,
		Policies: s.watched.Policies().Lister(),
		Materialized: materializing.New(materializing.Inputs{
			Policies: s.policies, Client: pipelineclient.Get(ctx).TektonV1alpha1(),
			Objects: s.watched.Policies().Lister(), Namespaces: s.watched.Namespaces().Lister(), Scope: s.state.Scope(),
		}),
		Guard:    func(ctx context.Context) error { return unguarded(ctx, kube) },
		InForce:  func(ctx context.Context) inforce.State { return inforce.Look(ctx, gateProbes(kube)) },
		Verdicts: s.verdicts, Emitter: s.emitter, Changes: s.state.OnChange,
	})
}

// unguarded returns why the API server does not refuse that others change the
// VerificationPolicies that this controller writes.
func unguarded(ctx context.Context, kube kubernetes.Interface) error {
	client := kube.AdmissionregistrationV1()
	guard, err := client.ValidatingAdmissionPolicies().Get(ctx, v1alpha1.MaterializedGuard, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if guard.Spec.FailurePolicy != nil && *guard.Spec.FailurePolicy != admissionv1.Fail {
		return fmt.Errorf("ValidatingAdmissionPolicy %s has failurePolicy %s, expected %s", guard.Name, *guard.Spec.FailurePolicy, admissionv1.Fail)
	}
	binding, err := client.ValidatingAdmissionPolicyBindings().Get(ctx, v1alpha1.MaterializedGuard, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if binding.Spec.PolicyName != guard.Name || !slices.Contains(binding.Spec.ValidationActions, admissionv1.Deny) || binding.Spec.MatchResources != nil {
		return fmt.Errorf("ValidatingAdmissionPolicyBinding %s is not as it was installed", binding.Name)
	}
	return nil
}
