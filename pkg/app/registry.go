// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/k8schain"
	"k8s.io/client-go/kubernetes"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/leases"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// serviceAccount is the controller's own. The controller pushes with the image
// pull secrets of this service account and never with those of other namespaces.
const serviceAccount = "tekton-chains-controller"

// storeOfConfig makes the store that the configuration names, and keeps it until
// the configuration names another one.
type storeOfConfig struct {
	kube    kubernetes.Interface
	config  func() *config.Config
	emitter *observe.Emitter

	mu      sync.Mutex // guards store and madeFor
	store   *oci.Store
	madeFor storeSettings
}

type storeSettings struct {
	repository, rekorURL string
	insecure             bool
}

func newStoreOfConfig(kube kubernetes.Interface, config func() *config.Config, emitter *observe.Emitter) *storeOfConfig {
	return &storeOfConfig{kube: kube, config: config, emitter: emitter}
}

// load returns the store, or nil if the configuration names none.
func (s *storeOfConfig) load() *oci.Store {
	c := s.config()
	wanted := storeSettings{repository: c.Repository, insecure: c.Chains.Storage.OCI.Insecure}
	if c.Chains.Transparency.Enabled && !c.Chains.Transparency.VerifyAnnotation { // "manual" is about runs
		wanted.rekorURL = c.Chains.Transparency.URL
	}
	if wanted.repository == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil || s.madeFor != wanted {
		client := registry.NewClient(registry.Options{
			Insecure: wanted.insecure, Keychains: pullSecrets{s.kube}, Locks: leases.New(s.kube.CoordinationV1(), system.Namespace()),
			Requested: func(ctx context.Context, method string, status int, took time.Duration) {
				s.emitter.Emit(ctx, observe.RegistryRequested{Method: method, Status: status, Took: took})
			},
		})
		s.store = &oci.Store{Registry: client, Prefix: wanted.repository, SignOptions: imagesignature.Options{RekorURL: wanted.rekorURL}}
		s.madeFor = wanted
	}
	return s.store
}

// pullSecrets are the image pull secrets of the controller's service account, read
// in the same way as by Chains.
type pullSecrets struct{ kube kubernetes.Interface }

var _ registry.Keychains = pullSecrets{}

// Keychain implements registry.Keychains.
func (p pullSecrets) Keychain(ctx context.Context) (authn.Keychain, error) {
	keychain, err := k8schain.New(ctx, p.kube, k8schain.Options{
		Namespace: system.Namespace(), ServiceAccountName: serviceAccount, UseMountSecrets: true,
	})
	if err != nil {
		return nil, fmt.Errorf("image pull secrets of service account %s/%s: %w", system.Namespace(), serviceAccount, err)
	}
	return keychain, nil
}
