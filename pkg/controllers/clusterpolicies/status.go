// SPDX-License-Identifier: Apache-2.0

package clusterpolicies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/inforce"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// state writes the status of each policy. known reports that the API server knows the
// revision.
func (c *Controller) state(ctx context.Context, looked []*compiled, revision string) (known bool, err error) {
	if len(looked) == 0 {
		clear(c.stated)
		return true, nil
	}
	found := c.InForce(ctx)
	selected, err := c.selected(selects(looked))
	if err != nil {
		return false, err
	}
	var errs []error
	for _, m := range looked {
		if err := c.stateOne(ctx, m, enforced(m, found, revision), selected[m.object.Name]); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("status of ClusterVerificationPolicy %s: %w", m.object.Name, err))
		}
	}
	maps.DeleteFunc(c.stated, func(name, _ string) bool {
		return !slices.ContainsFunc(looked, func(m *compiled) bool { return m.object.Name == name })
	})
	return found.ClusterPolicies == revision, errors.Join(errs...)
}

// selects returns a function that returns the names of the policies that select a namespace
// with some labels.
func selects(looked []*compiled) func(map[string]string) []string {
	policies := make([]policy.ClusterPolicy, 0, len(looked))
	for _, m := range looked {
		if m.policy != nil {
			policies = append(policies, *m.policy)
		}
	}
	cluster, err := policy.NewCluster(policies)
	if err != nil {
		return func(map[string]string) []string { return nil } // not possible: each was compiled
	}
	return cluster.Selects
}

// enforced returns the condition Enforced.
func enforced(m *compiled, found inforce.State, revision string) metav1.Condition {
	condition := func(status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: v1alpha1.PolicyEnforced, Status: status, Reason: reason, Message: message}
	}
	switch {
	case m.policy == nil:
		return condition(metav1.ConditionFalse, m.accepted.Reason, "the policy decides nothing")
	case m.policy.Spec.Mode != v1alpha1.PolicyEnforce:
		return condition(metav1.ConditionFalse, v1alpha1.PolicyNotEnforcing, fmt.Sprintf("in mode %s, a policy holds no Pods", m.policy.Spec.Mode))
	case !found.InForce():
		return condition(metav1.ConditionFalse, v1alpha1.PolicyNotHeld, found.Why+"; apply config/admission")
	case found.ClusterPolicies != revision:
		return condition(metav1.ConditionFalse, v1alpha1.PolicyNotHeld, "the API server does not know the last state of the policies yet; "+
			"if this does not change, apply config/admission")
	}
	return condition(metav1.ConditionTrue, v1alpha1.PolicyInForce, "the API server holds the Pods of TaskRuns in each selected namespace")
}

// ready returns the condition Ready. A policy in mode warn or skip need not hold Pods.
func ready(accepted, enforced metav1.Condition) metav1.Condition {
	for _, condition := range []metav1.Condition{accepted, enforced} {
		if condition.Status != metav1.ConditionTrue && condition.Reason != v1alpha1.PolicyNotEnforcing {
			return metav1.Condition{Type: v1alpha1.PolicyReady, Status: metav1.ConditionFalse, Reason: condition.Reason, Message: condition.Message}
		}
	}
	return metav1.Condition{Type: v1alpha1.PolicyReady, Status: metav1.ConditionTrue, Reason: v1alpha1.PolicyInForce, Message: accepted.Message}
}

// stateOne writes the status of one policy if it has changed, and sends an Event when the
// policy comes into force, or is not in force any more.
func (c *Controller) stateOne(ctx context.Context, m *compiled, enforced metav1.Condition, selected int32) error {
	next := m.object.DeepCopy()
	next.Status.ObservedGeneration = next.Generation
	next.Status.Namespaces.Selected = selected
	next.Status.Authorities = m.authorities
	readiness := ready(m.accepted, enforced)
	for _, condition := range []metav1.Condition{m.accepted, enforced, readiness} {
		condition.ObservedGeneration = next.Generation
		meta.SetStatusCondition(&next.Status.Conditions, condition)
	}
	if !equality.Semantic.DeepEqual(next.Status, m.object.Status) {
		if _, err := c.Client.UpdateStatus(ctx, next, metav1.UpdateOptions{FieldManager: v1alpha1.Group}); err != nil {
			return err
		}
	}
	stated := string(readiness.Status) + readiness.Reason
	if c.stated[next.Name] != stated {
		c.stated[next.Name] = stated
		c.Emitter.Emit(ctx, observe.ClusterPolicyReady{Policy: reference(next), Ready: readiness.Status == metav1.ConditionTrue, Why: readiness.Message})
	}
	return nil
}

func reference(p *v1alpha1.ClusterVerificationPolicy) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterVerificationPolicy",
		Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}
}
