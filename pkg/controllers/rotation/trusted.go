// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

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

// unready returns the policies that accept signatures of one of the other keys and not
// those of the next key. A policy whose keys cannot be read is one of them. read reads the
// keys of policies.
func (c *Controller) unready(ctx context.Context, all policiesOf, read *policy.Keys, others []*keys.Key, next *keys.Key) ([]v1alpha1.PolicyReference, error) {
	otherProbes, err := c.probesOf(ctx, others...)
	if err != nil {
		return nil, fmt.Errorf("another key of the ring: %w", err)
	}
	nextProbe, err := c.probesOf(ctx, next)
	if err != nil {
		return nil, fmt.Errorf("the next key: %w", err)
	}
	var found []v1alpha1.PolicyReference
	for _, namespace := range slices.Sorted(maps.Keys(all)) {
		blocking, err := unreadyIn(ctx, policy.NewSet(all[namespace], read), otherProbes, nextProbe[0])
		if err != nil {
			return nil, err
		}
		for _, name := range blocking {
			found = append(found, v1alpha1.PolicyReference{Namespace: namespace, Policy: name})
		}
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

// probesOf returns a signature of each key. Each key makes one: a call to a KMS costs
// time and money.
func (c *Controller) probesOf(ctx context.Context, signing ...*keys.Key) ([]policy.Input, error) {
	inputs := make([]policy.Input, 0, len(signing))
	for _, key := range signing {
		signature, made := c.probes[key.ID]
		if !made {
			raw, err := key.Sign(ctx, probe)
			if err != nil {
				return nil, err
			}
			signature = base64.StdEncoding.EncodeToString(raw)
			c.probes[key.ID] = signature
		}
		inputs = append(inputs, policy.Input{Checksum: probe, Signature: signature})
	}
	return inputs, nil
}

func unreadyIn(ctx context.Context, policies *policy.Set, others []policy.Input, next policy.Input) (names []string, err error) {
	trustsNext, err := policies.Outcomes(ctx, next)
	if err != nil {
		return nil, err
	}
	blocking := map[string]bool{}
	for _, probe := range others {
		trustsOther, err := policies.Outcomes(ctx, probe)
		if err != nil {
			return nil, err
		}
		for i, outcome := range trustsOther {
			mayTrust := outcome.Result == policy.Passed || outcome.Reason == policy.KeyUnavailable
			if mayTrust && trustsNext[i].Result != policy.Passed {
				blocking[outcome.Policy] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(blocking)), nil
}
