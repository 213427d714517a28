// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"

	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	"go.uber.org/zap"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/client"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rotation"
	"github.com/trusted-resources/chains-extension/pkg/controllers/storing"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// keyRings returns what follows the KeyRings, or ends the process.
func (a *app) keyRings(ctx context.Context, kube kubernetes.Interface, kms *keys.KMS) (*rings.Keys, *rings.Rings) {
	loaded := rings.NewKeys(rings.Sources{
		Namespace: system.Namespace(),
		Secret:    secrets{kube.CoreV1()}.Secret,
		KMS:       kms.Key,
	}, clock.RealClock{})
	return loaded, rings.New(keyRingClient(ctx), loaded, clock.RealClock{})
}

func keyRingClient(ctx context.Context) rings.Client {
	keyRings, err := client.NewKeyRings(injection.GetConfig(ctx), system.Namespace())
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot make a client for KeyRings", zap.Error(err))
	}
	return keyRings
}

func (a *app) rotationController(ctx context.Context, s *shared) *controller.Impl {
	return rotation.NewController(ctx, rotation.Inputs{
		Namespace: system.Namespace(), Rings: s.keyRings, Keys: s.ringKeys, Client: keyRingClient(ctx),
		Kube: kubeclient.Get(ctx), Tekton: pipelineclient.Get(ctx), Policies: s.state.PolicyKeys(), PolicyLister: s.watched.Policies().Lister(), Changes: s.state.OnChange, Resources: s.watched,
		RingOf: func(namespace string) string {
			ns, err := s.watched.Namespaces().Lister().Get(namespace)
			if err != nil {
				return "" // not in the cache yet
			}
			return s.keyRings.NameFor(ns.Labels)
		},
		RunSigners: func() []string {
			artifacts := s.state.Config().Chains.Artifacts
			return []string{artifacts.TaskRuns.Signer, artifacts.PipelineRuns.Signer, artifacts.OCI.Signer}
		},
		ClusterPolicies: s.policies.WithFixedKeys,
		Attests:         a.options.attests,
		LatestVersion:   s.kms.LatestVersion,
		Legacy:          s.state.LegacyKeys, Dialect: s.state.Dialect, Emitter: s.emitter, Clock: clock.RealClock{}, Ready: s.gate.IsOpen,
		Bundles: storing.NewBundles(s.state, s.store.load, s.emitter),
	})
}
