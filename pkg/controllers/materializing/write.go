// SPDX-License-Identifier: Apache-2.0

package materializing

import (
	"context"
	"fmt"
	"slices"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// fieldManager is the manager of each field of the VerificationPolicies.
const fieldManager = v1alpha1.Group + "/policy"

// carryOut writes what a plan says, and ends with the first error.
func (w *Writer) carryOut(ctx context.Context, namespace string, p *plan) error {
	written := map[string]string{} // resourceVersions, by name
	for _, c := range slices.Concat(p.widen, p.shrink) {
		if err := w.write(ctx, c, written); err != nil {
			return explained(fmt.Errorf("VerificationPolicy %s/%s: %w", namespace, c.after.Name, err))
		}
	}
	if len(p.remove) == 0 {
		return nil
	}
	return w.remove(ctx, namespace, p.remove)
}

// write creates a policy, or replaces all of it. It refuses to replace a state that is not in
// the cache yet.
func (w *Writer) write(ctx context.Context, c change, written map[string]string) error {
	client := w.Client.VerificationPolicies(c.after.Namespace)
	next := c.after.DeepCopy()
	var err error
	if c.before == nil {
		next, err = client.Create(ctx, next, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		next.ResourceVersion = c.before.ResourceVersion
		if version := written[next.Name]; version != "" {
			next.ResourceVersion = version
		}
		next, err = client.Update(ctx, next, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return err
	}
	written[next.Name] = next.ResourceVersion
	logging.FromContext(ctx).Infow("VerificationPolicy written", "namespace", next.Namespace, "name", next.Name,
		"generation", next.Annotations[v1alpha1.MaterializedAnnotation], "new", c.before == nil)
	return nil
}

// remove deletes policies that the API server, asked now, wants no more: a cache can be old.
func (w *Writer) remove(ctx context.Context, namespace string, policies []*tekton.VerificationPolicy) error {
	list, err := w.Client.VerificationPolicies(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	found := make([]*tekton.VerificationPolicy, 0, len(list.Items))
	for i := range list.Items {
		found = append(found, &list.Items[i])
	}
	wanted, err := w.Policies.MaterializedNow(ctx, namespace, policy.Own(found))
	if err != nil {
		return err
	}
	for _, p := range policies {
		if slices.ContainsFunc(wanted, func(m policy.Materialized) bool { return m.Name == p.Name && m.Object != nil }) {
			return fmt.Errorf("VerificationPolicy %s/%s is not deleted: %w", namespace, p.Name, errOlder)
		}
		err := w.Client.VerificationPolicies(namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &p.UID, ResourceVersion: &p.ResourceVersion},
		})
		if err != nil && !apierrors.IsNotFound(err) {
			return explained(fmt.Errorf("VerificationPolicy %s/%s: %w", namespace, p.Name, err))
		}
		logging.FromContext(ctx).Infow("VerificationPolicy deleted", "namespace", namespace, "name", p.Name,
			"generation", p.Annotations[v1alpha1.MaterializedAnnotation])
	}
	return nil
}

// explained returns an error that says what to do next.
func explained(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w; apply config/materialize", err)
	}
	return err
}

func reasonOf(err error) string {
	if apierrors.IsForbidden(err) {
		return v1alpha1.PolicyNotPermitted
	}
	return v1alpha1.PolicyNotYetSynced
}
