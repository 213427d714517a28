// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"encoding/base64"
	"fmt"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// policiesOf are VerificationPolicies by namespace, without those of canaries.
type policiesOf map[string][]*tekton.VerificationPolicy

func (p policiesOf) add(policy *tekton.VerificationPolicy) {
	if policy.Namespace != v1alpha1.CanaryNamespace {
		p[policy.Namespace] = append(p[policy.Namespace], policy)
	}
}

// ClusterPolicies returns the ClusterVerificationPolicies that name their keys, and no
// KeyRing. live asks for those that the API server has now.
type ClusterPolicies func(ctx context.Context, live bool) ([]*tekton.VerificationPolicy, error)

// withCluster adds the ClusterVerificationPolicies, which have no namespace.
func (c *Controller) withCluster(ctx context.Context, found policiesOf, live bool) (policiesOf, error) {
	fixed, err := c.ClusterPolicies(ctx, live)
	if err != nil {
		return nil, fmt.Errorf("reading the ClusterVerificationPolicies: %w", err)
	}
	for _, p := range fixed {
		found.add(p)
	}
	return found, nil
}

// livePolicies returns the policies that the API server has now.
func (c *Controller) livePolicies(ctx context.Context) (policiesOf, error) {
	found := policiesOf{}
	err := eachItem(ctx, func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return c.Tekton.TektonV1alpha1().VerificationPolicies(metav1.NamespaceAll).List(ctx, o)
	}, func(item runtime.Object) error {
		p, ok := item.(*tekton.VerificationPolicy)
		if !ok {
			return fmt.Errorf("the list of VerificationPolicies has a %T", item)
		}
		found.add(p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the VerificationPolicies of the cluster: %w", err)
	}
	return found, nil
}

// cachedPolicies returns the policies in the cache.
func (c *Controller) cachedPolicies() (policiesOf, error) {
	all, err := c.PolicyLister.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	found := policiesOf{}
	for _, p := range all {
		found.add(p)
	}
	return found, nil
}

// probe is the message of probes. No resource has it as its checksum.
var probe = []byte("probe of a key ring")

// probeOf returns a signature of a key over the probe. Each key makes one: a call to a KMS
// costs time and money.
func (c *Controller) probeOf(ctx context.Context, key *keys.Key) (policy.Input, error) {
	signature, made := c.probes[key.ID]
	if !made {
		raw, err := key.Sign(ctx, probe)
		if err != nil {
			return policy.Input{}, err
		}
		signature = base64.StdEncoding.EncodeToString(raw)
		c.probes[key.ID] = signature
	}
	return policy.Input{Checksum: probe, Signature: signature}, nil
}

// addProbes adds probes of keys that make one soon. The others are left out.
func (c *Controller) addProbes(ctx context.Context, probes map[string]policy.Input, signers map[string]*keys.Key) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	for _, key := range signers {
		if made, err := c.probeOf(ctx, key); err == nil {
			probes[key.ID] = made
		}
	}
}

// signers returns the keys of a ring that can make signatures, by name, without the
// revoked ones.
func (c *Controller) signers(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) map[string]*keys.Key {
	found := map[string]*keys.Key{}
	for _, key := range status.Keys {
		if key.State == v1alpha1.KeyRevoked {
			continue
		}
		if signer, err := c.Keys.Key(ctx, ring, key.Name); err == nil && signer.ID == key.KeyID {
			found[key.Name] = signer
		}
	}
	return found
}
