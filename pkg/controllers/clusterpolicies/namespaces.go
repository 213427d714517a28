// SPDX-License-Identifier: Apache-2.0

package clusterpolicies

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// namespaces returns which namespaces each policy selects, and where policies conflict with
// others, by the names of the policies.
func (c *Controller) namespaces(ctx context.Context, looked []*compiled, revision string) (map[string]v1alpha1.PolicyNamespaces, error) {
	policies := make([]policy.ClusterPolicy, 0, len(looked))
	for _, m := range looked {
		if m.policy != nil {
			policies = append(policies, *m.policy)
		}
	}
	cluster, err := policy.NewCluster(policies)
	if err != nil {
		return nil, err // not possible: each was compiled
	}
	all, err := c.Namespaces.List(everything)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *corev1.Namespace) int { return cmp.Compare(a.Name, b.Name) })
	found, conflictsNow := map[string]v1alpha1.PolicyNamespaces{}, map[string]conflicts{}
	for _, ns := range all {
		if ns.Status.Phase == corev1.NamespaceTerminating {
			continue
		}
		for _, name := range cluster.Selects(ns.Labels) {
			n := found[name]
			n.Selected++
			found[name] = n
		}
		here, err := c.conflicts(ctx, cluster, revision, ns)
		if err != nil {
			return nil, err
		}
		conflictsNow[ns.Name] = here
		for _, conflict := range here.found {
			n := found[conflict.Policy]
			if n.Conflicting++; n.Conflicting <= v1alpha1.MaxPolicyNamespaces {
				n.Conflicts = append(n.Conflicts, v1alpha1.PolicyNamespace{Namespace: ns.Name, Reason: conflict.Reason, Message: conflict.Message})
			}
			found[conflict.Policy] = n
		}
	}
	c.lastConflicts = conflictsNow
	return found, nil
}

// conflicts returns the conflicts in a namespace. It looks for them again when something that
// they depend on has changed.
func (c *Controller) conflicts(ctx context.Context, cluster *policy.Cluster, revision string, ns *corev1.Namespace) (conflicts, error) {
	found, err := c.Policies.VerificationPolicies(ns.Name).List(everything)
	if err != nil {
		return conflicts{}, err
	}
	own := policy.Own(found)
	var ring []string
	if len(own) > 0 {
		if ring, err = c.Followed.ring(ns.Labels); err != nil {
			return conflicts{}, err
		}
	}
	versions := make([]string, 0, len(own))
	for _, p := range own {
		versions = append(versions, string(p.UID)+p.ResourceVersion)
	}
	depends := fmt.Sprint(revision, ns.Labels, ring, versions)
	last := c.lastConflicts[ns.Name]
	if last.depends != depends {
		last = conflicts{depends, cluster.Conflicts(ctx, ns.Name, ns.Labels, own, func() ([]string, error) { return ring, nil })}
	}
	return last, nil
}

// conflicts are those of one namespace, and what they depend on.
type conflicts struct {
	depends string
	found   []policy.Conflict
}
