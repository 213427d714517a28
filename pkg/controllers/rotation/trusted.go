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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

const pageSize = 500

// unready returns the policies of the cluster that accept signatures of another key and
// not those of the next key, in their present state at the API server. A policy whose
// keys cannot be read is one of them.
func (c *Controller) unready(ctx context.Context, others []*keys.Key, next *keys.Key) ([]v1alpha1.PolicyReference, error) {
	byNamespace, err := c.policies(ctx)
	if err != nil {
		return nil, err
	}
	otherProbes, err := probes(ctx, others...)
	if err != nil {
		return nil, fmt.Errorf("another key of the ring: %w", err)
	}
	nextProbe, err := probes(ctx, next)
	if err != nil {
		return nil, fmt.Errorf("the next key: %w", err)
	}
	var found []v1alpha1.PolicyReference
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		blocking, err := unreadyIn(ctx, policy.NewSet(byNamespace[namespace], c.Policies.Fresh()), otherProbes, nextProbe[0])
		if err != nil {
			return nil, err
		}
		for _, name := range blocking {
			found = append(found, v1alpha1.PolicyReference{Namespace: namespace, Policy: name})
		}
	}
	return found, nil
}

// policies lists the VerificationPolicies of the cluster.
func (c *Controller) policies(ctx context.Context) (map[string][]*tekton.VerificationPolicy, error) {
	pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return c.Tekton.TektonV1alpha1().VerificationPolicies(metav1.NamespaceAll).List(ctx, options)
	})
	pages.PageSize = pageSize
	byNamespace := map[string][]*tekton.VerificationPolicy{}
	err := pages.EachListItem(ctx, metav1.ListOptions{}, func(item runtime.Object) error {
		found, ok := item.(*tekton.VerificationPolicy)
		if !ok {
			return fmt.Errorf("the list of VerificationPolicies has a %T", item)
		}
		byNamespace[found.Namespace] = append(byNamespace[found.Namespace], found)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the VerificationPolicies of the cluster: %w", err)
	}
	return byNamespace, nil
}

// probes returns a signature of each key over a message that no resource has as its
// checksum.
func probes(ctx context.Context, signing ...*keys.Key) ([]policy.Input, error) {
	message := []byte("probe of a key ring")
	inputs := make([]policy.Input, 0, len(signing))
	for _, key := range signing {
		signature, err := key.Sign(ctx, message)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, policy.Input{Checksum: message, Signature: base64.StdEncoding.EncodeToString(signature)})
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
