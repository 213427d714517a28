// SPDX-License-Identifier: Apache-2.0

package runs

import (
	"context"
	"errors"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/resolution/v1beta1"
	policylisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	resolution "github.com/tektoncd/pipeline/pkg/client/resolution/clientset/versioned/typed/resolution/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/dependencies"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/oci"
)

// requests reads ResolutionRequests one by one. They hold whole resources, so a
// cache of all of them would be large, and each is read about once.
type requests struct {
	resolution.ResolutionRequestsGetter
}

var _ dependencies.Requests = requests{}

// Request implements dependencies.Requests.
func (r requests) Request(ctx context.Context, namespace, name string) (*v1beta1.ResolutionRequest, error) {
	return r.ResolutionRequests(namespace).Get(ctx, name, metav1.GetOptions{})
}

// registry returns the store of the current configuration, nil if there is none.
type registry func() *oci.Store

var _ dependencies.StoredSignatures = registry(nil)

// registryTimeout bounds the search for one signature in the registry.
const registryTimeout = 10 * time.Second

// Signature implements dependencies.StoredSignatures.
func (r registry) Signature(ctx context.Context, kind resource.Kind, namespace, name string, checksum []byte) (string, error) {
	store := r()
	if store == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, registryTimeout)
	defer cancel()
	signature, err := store.Signature(ctx, oci.ID{Kind: kind, Namespace: namespace, Name: name}, checksum)
	if errors.Is(err, oci.ErrNotFound) {
		return "", nil
	}
	return resource.EncodeSignature(signature), err
}

// repositories are the repositories below the prefix of the current configuration.
type repositories func() *config.Config

var _ dependencies.Repositories = repositories(nil)

// Namespace implements dependencies.Repositories.
func (r repositories) Namespace(repository string) (string, bool) {
	return oci.NamespaceOf(r().Repository, repository)
}

// policies reads VerificationPolicies from the informer's cache.
type policies struct {
	policylisters.VerificationPolicyLister
}

var _ policy.Policies = policies{}

// Policies implements policy.Policies.
func (p policies) Policies(namespace string) ([]*v1alpha1.VerificationPolicy, error) {
	return p.VerificationPolicies(namespace).List(labels.Everything())
}
