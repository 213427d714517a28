// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/client"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// ruled is an env with ClusterVerificationPolicies and all policies of config/admission.
type ruled struct {
	*matrix

	policies *client.ClusterPolicies
}

// everywhere is the label by which the policies of one test select its namespaces.
const everywhere = "test.example.dev/ruled"

func startRuled(t *testing.T) *ruled {
	t.Helper()
	e := startController(t)
	e.configure(withProvenance)
	e.cleanup(func() error { return cluster.RemoveAdmission(cleanupContext()) })
	e.check(cluster.InstallAdmission(t.Context()))
	return newRuled(e)
}

func newRuled(e *env) *ruled {
	e.t.Helper()
	policies, err := client.NewClusterPolicies(cluster.Admin)
	e.check(err)
	return &ruled{newMatrix(e), policies}
}

// cvp returns a policy for the namespaces whose label has a value.
func (r *ruled) cvp(name, group string, tier v1alpha1.PolicyTier, priority int32, mode v1alpha1.PolicyMode, source string, signers ...harness.Signer) *v1alpha1.ClusterVerificationPolicy {
	r.t.Helper()
	p := &v1alpha1.ClusterVerificationPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
	p.Spec = v1alpha1.ClusterVerificationPolicySpec{
		Tier: tier, Priority: priority, Mode: mode, Resources: []v1alpha1.PolicyResource{{Source: source}},
		NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{everywhere: group}},
	}
	for i, signer := range signers {
		p.Spec.Authorities = append(p.Spec.Authorities, v1alpha1.PolicyAuthority{Name: fmt.Sprint("key-", i), Data: r.pem(signer)})
	}
	return p
}

func (r *ruled) pem(signer harness.Signer) string {
	r.t.Helper()
	public, err := signer.PublicKey()
	r.check(err)
	encoded, err := cryptoutils.MarshalPublicKeyToPEM(public)
	r.check(err)
	return string(encoded)
}

// put creates a policy, and deletes it at the end of the test.
func (r *ruled) put(p *v1alpha1.ClusterVerificationPolicy) {
	r.t.Helper()
	_, err := r.policies.Create(r.t.Context(), p, metav1.CreateOptions{})
	r.check(err)
	r.cleanup(func() error {
		err := r.policies.Delete(cleanupContext(), p.Name, metav1.DeleteOptions{})
		return ignoreNotFound(err)
	})
}

// waitCondition waits for a condition of a policy, and returns the policy.
func (r *ruled) waitCondition(name, condition string, status metav1.ConditionStatus, reason string) *v1alpha1.ClusterVerificationPolicy {
	r.t.Helper()
	var found *v1alpha1.ClusterVerificationPolicy
	r.eventually(soon, func() error {
		var err error
		if found, err = r.policies.Get(r.t.Context(), name, metav1.GetOptions{}); err != nil {
			return err
		}
		c := meta.FindStatusCondition(found.Status.Conditions, condition)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != found.Generation {
			return fmt.Errorf("policy %s: condition %s is %+v, want %s %s", name, condition, c, status, reason)
		}
		return nil
	})
	return found
}

func (r *ruled) waitReady(name string) *v1alpha1.ClusterVerificationPolicy {
	r.t.Helper()
	return r.waitCondition(name, v1alpha1.PolicyReady, metav1.ConditionTrue, v1alpha1.PolicyInForce)
}

// group returns a namespace that the policies of a group select.
func (r *ruled) group(name string) string {
	r.t.Helper()
	return r.namespaceLabelled(map[string]string{everywhere: name})
}

// signedBy creates a Task in a namespace, signed or (without a signer) not.
func (r *ruled) signedBy(signer *harness.Signer, task *v1.Task) {
	r.t.Helper()
	if signer == nil {
		task.SetDefaults(r.t.Context())
	} else {
		r.check(signer.Sign(r.t.Context(), task))
	}
	r.createTask(task)
}

// gone waits until the API server has no object of a name.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return errors.Join(errors.New("the object is still there"), err)
}
