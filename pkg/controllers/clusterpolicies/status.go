// SPDX-License-Identifier: Apache-2.0

package clusterpolicies

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

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
		clear(c.conflicting)
		return true, nil
	}
	found := c.InForce(ctx)
	c.Materialized.SetCovered(found.InForce() && found.ClusterPolicies == revision)
	guard := sync.OnceValue(func() metav1.Condition { return protected(c.Guard(ctx)) })
	namespaces, err := c.namespaces(ctx, looked, revision)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, m := range looked {
		next := m.object.DeepCopy()
		next.Status.Namespaces = namespaces[next.Name]
		c.stateMaterialized(next, guard)
		if err := c.stateOne(ctx, m, next, enforced(m, found, revision)); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("status of ClusterVerificationPolicy %s: %w", m.object.Name, err))
		}
	}
	isGone := func(name string) bool {
		return !slices.ContainsFunc(looked, func(m *compiled) bool { return m.object.Name == name })
	}
	maps.DeleteFunc(c.stated, func(name, _ string) bool { return isGone(name) })
	maps.DeleteFunc(c.conflicting, func(name string, _ int32) bool { return isGone(name) })
	return found.ClusterPolicies == revision, errors.Join(errs...)
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

// stateMaterialized states whether the selected namespaces have the VerificationPolicy.
func (c *Controller) stateMaterialized(next *v1alpha1.ClusterVerificationPolicy, guard func() metav1.Condition) {
	namespaces := &next.Status.Namespaces
	if !next.Spec.Materialize {
		meta.RemoveStatusCondition(&next.Status.Conditions, v1alpha1.PolicyMaterialized)
		meta.RemoveStatusCondition(&next.Status.Conditions, v1alpha1.PolicyProtected)
		return
	}
	synced, not := c.Materialized.Of(next.Name)
	namespaces.Synced, namespaces.NotSynced = &synced, not[:min(len(not), v1alpha1.MaxPolicyNamespaces)]
	condition := metav1.Condition{
		Type: v1alpha1.PolicyMaterialized, Status: metav1.ConditionTrue, Reason: v1alpha1.PolicySynced,
		Message: "each selected namespace has the VerificationPolicy " + policy.MaterializedName(next.Name),
	}
	if len(not) > 0 || synced != namespaces.Selected {
		condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.PolicyNotYetSynced
		condition.Message = fmt.Sprintf("%d of %d selected namespaces have the VerificationPolicy", synced, namespaces.Selected)
	}
	if len(not) > 0 {
		condition.Reason = not[0].Reason
		condition.Message += fmt.Sprintf("; namespace %s: %s", not[0].Namespace, not[0].Message)
	}
	for _, condition := range []metav1.Condition{condition, guard()} {
		condition.ObservedGeneration = next.Generation
		meta.SetStatusCondition(&next.Status.Conditions, condition)
	}
}

// protected returns the condition Protected.
func protected(unguarded error) metav1.Condition {
	if unguarded != nil {
		return metav1.Condition{
			Type: v1alpha1.PolicyProtected, Status: metav1.ConditionFalse, Reason: v1alpha1.PolicyNotGuarded,
			Message: unguarded.Error() + "; apply config/materialize",
		}
	}
	return metav1.Condition{
		Type: v1alpha1.PolicyProtected, Status: metav1.ConditionTrue, Reason: v1alpha1.PolicyInForce,
		Message: "the API server refuses that others change the VerificationPolicies",
	}
}

// ready returns the condition Ready. A policy in mode warn or skip need not hold Pods. A policy
// without spec.materialize has no conditions Materialized and Protected.
func ready(accepted, enforced metav1.Condition, others []metav1.Condition) metav1.Condition {
	conditions := []metav1.Condition{accepted, enforced}
	for _, condition := range others {
		if condition.Type == v1alpha1.PolicyMaterialized || condition.Type == v1alpha1.PolicyProtected {
			conditions = append(conditions, condition)
		}
	}
	for _, condition := range conditions {
		if condition.Status != metav1.ConditionTrue && condition.Reason != v1alpha1.PolicyNotEnforcing {
			return metav1.Condition{Type: v1alpha1.PolicyReady, Status: metav1.ConditionFalse, Reason: condition.Reason, Message: condition.Message}
		}
	}
	return metav1.Condition{Type: v1alpha1.PolicyReady, Status: metav1.ConditionTrue, Reason: v1alpha1.PolicyInForce, Message: accepted.Message}
}

// stateOne completes the status of one policy in next, and writes it if it has changed. An
// Event says when the policy comes into force, or is not in force any more.
func (c *Controller) stateOne(ctx context.Context, m *compiled, next *v1alpha1.ClusterVerificationPolicy, enforced metav1.Condition) error {
	next.Status.ObservedGeneration = next.Generation
	next.Status.Authorities = m.authorities
	readiness := ready(m.accepted, enforced, next.Status.Conditions)
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
	if n := next.Status.Namespaces; n.Conflicting != c.conflicting[next.Name] {
		c.conflicting[next.Name] = n.Conflicting
		c.Emitter.Emit(ctx, observe.ClusterPolicyConflicts{Policy: reference(next), Namespaces: n})
	}
	return nil
}

func reference(p *v1alpha1.ClusterVerificationPolicy) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "ClusterVerificationPolicy",
		Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion,
	}
}
