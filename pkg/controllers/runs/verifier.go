// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"cmp"
	"context"
	"errors"

	pipelineruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/pipelinerun"
	taskruninformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1/taskrun"
	resolutionclient "github.com/tektoncd/pipeline/pkg/client/resolution/injection/client"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
	"github.com/trusted-resources/chains-extension/pkg/verification"
)

// Sources are what runs are verified with.
type Sources struct {
	Config func() *config.Config
	Keys   func() *keys.Ring
	// Verified, if not nil, is told the ID of each key that verified a resource behind a run.
	Verified        func(keyID string)
	SignatureWrites *SignatureWrites
	// Dialect returns the dialect of the installed release of Tekton.
	Dialect func() tekton.Dialect
	// Store returns the place where bundles are stored, or nil if there is none.
	Store    func() *oci.Store
	Objects  dependencies.Objects
	Policies policy.Sources
	// Cluster are the ClusterVerificationPolicies.
	Cluster policy.ClusterPolicies
	// OnChange calls its argument with each namespace, or all namespaces (empty), for which
	// other ClusterVerificationPolicies or keys count.
	OnChange func(func(namespace string))
	// Watched has the VerificationPolicies.
	Watched  *informers.Watched
	Handlers *informers.Handlers
	// Measure calls its argument for the values of gauges.
	Measure func(read func() []observe.Measurement)
}

// NewVerifier returns the verifier of all runs, with the clients and informers of the
// context. From now on it remembers how runs begin.
func NewVerifier(ctx context.Context, in Sources) (*verification.Verifier, error) {
	creations := newRunCreations(in.SignatureWrites)
	onRun := controller.HandleAll(creations.observe)
	watched := in.Watched.Policies()
	verifier := policy.New(policies{watched.Lister()}, in.Cluster, in.Policies)
	in.Measure(func() []observe.Measurement {
		verdicts, keys := verifier.Cached()
		return []observe.Measurement{observe.CacheEntries(observe.Verdicts, verdicts), observe.CacheEntries(observe.RunKeys, keys)}
	})
	in.OnChange(func(namespace string) {
		if namespace == metav1.NamespaceAll {
			verifier.ClusterChanged()
			return
		}
		verifier.PoliciesChanged(namespace)
	})
	onPolicy := controller.HandleAll(func(item any) {
		if name, err := cache.DeletionHandlingObjectToName(item); err == nil {
			verifier.PoliciesChanged(name.Namespace)
		}
	})
	err := errors.Join(
		in.Handlers.Add(taskruninformer.Get(ctx).Informer(), onRun),
		in.Handlers.Add(pipelineruninformer.Get(ctx).Informer(), onRun),
		in.Watched.Add(watched.Informer(), onPolicy),
	)
	return &verification.Verifier{
		Collector: dependencies.Collector{
			Objects:      in.Objects,
			Requests:     requests{resolutionclient.Get(ctx).ResolutionV1beta1()},
			Creations:    creations,
			Stored:       registry(in.Store),
			Repositories: repositories(in.Config),
		},
		ChildCreations: childCreations{creations},

		Policies: verifier,
		Keys:     ownKeys(in.Keys),
		Verified: in.Verified,
		Dialect:  in.Dialect,
		Clock:    clock.RealClock{},
	}, err
}

// ownKeys returns the key ring of this installation.
type ownKeys func() *keys.Ring

var _ policy.OwnKeys = ownKeys(nil)

// Signer implements policy.OwnKeys.
func (k ownKeys) Signer(signature, checksum []byte) (string, bool) {
	ring := k()
	if key := cmp.Or(ring.Find(signature, checksum), ring.FindRevoked(signature, checksum)); key != nil {
		return key.ID, true
	}
	return "", false
}

// Revoked implements policy.OwnKeys.
func (k ownKeys) Revoked(keyID string) bool { return k().Revoked(keyID) }
