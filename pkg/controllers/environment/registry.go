package environment

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/authn/k8schain"
	"k8s.io/client-go/kubernetes"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/leases"
	"github.com/trusted-resources/chains-extension/pkg/oci/imagesignature"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// serviceAccount is the controller's own, whose image pull secrets it pushes
// with: those of other namespaces are not for it to use.
const serviceAccount = "tekton-chains-controller"

// stores makes the store that the configuration asks for, and keeps it as long
// as that asks for the same.
type stores struct {
	kube kubernetes.Interface

	mu      sync.Mutex // guards all below
	made    *oci.Store
	madeFor storeSettings
}

type storeSettings struct {
	repository, rekorURL string
	insecure             bool
}

func newStores(ctx context.Context) *stores { return &stores{kube: kubeclient.Get(ctx)} }

// Store is where bundles go; nil if the configuration names no such place.
func (env *Environment) Store() *oci.Store { return env.stores.of(env.Config.Load()) }

func (s *stores) of(c *config.Config) *oci.Store {
	wanted := storeSettings{repository: c.Repository, insecure: c.Chains.Storage.OCI.Insecure}
	if c.Chains.Transparency.Enabled && !c.Chains.Transparency.VerifyAnnotation { // "manual" is about runs
		wanted.rekorURL = c.Chains.Transparency.URL
	}
	if wanted.repository == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made == nil || s.madeFor != wanted {
		client := registry.NewClient(registry.Options{
			Insecure: wanted.insecure, Keychains: pullSecrets{s.kube}, Locks: leases.New(s.kube.CoordinationV1(), system.Namespace()),
		})
		s.made = &oci.Store{Registry: client, Prefix: wanted.repository, SignOptions: imagesignature.Options{RekorURL: wanted.rekorURL}}
		s.madeFor = wanted
	}
	return s.made
}

// pullSecrets are the credentials of the controller's service account, as Chains
// takes them.
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
