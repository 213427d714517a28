// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"knative.dev/pkg/apis"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// startMaterialized starts a controller that may write VerificationPolicies. There is no gate:
// only Tekton refuses runs.
func startMaterialized(t *testing.T) *ruled {
	t.Helper()
	e := startController(t)
	e.configure(withProvenance)
	e.applyConfig("materialize")
	return newRuled(e)
}

// materialized returns a policy for a group that is to be materialized.
func (r *ruled) materialized(name, group string, tier v1alpha1.PolicyTier, priority int32, signers ...harness.Signer) *v1alpha1.ClusterVerificationPolicy {
	r.t.Helper()
	p := r.cvp(name, group, tier, priority, modeEnforce, "*", signers...)
	p.Spec.Materialize = true
	return p
}

// waitVerificationPolicy waits until a namespace has the VerificationPolicy of a policy, and
// returns it.
func (r *ruled) waitVerificationPolicy(namespace, clusterPolicy string, good func(*tekton.VerificationPolicy) error) *tekton.VerificationPolicy {
	r.t.Helper()
	var found *tekton.VerificationPolicy
	r.eventually(soon, func() (err error) {
		if found, err = r.verificationPolicy(namespace, clusterPolicy); err == nil && good != nil {
			err = good(found)
		}
		return err
	})
	return found
}

func (r *ruled) verificationPolicy(namespace, clusterPolicy string) (*tekton.VerificationPolicy, error) {
	return cluster.Tekton.TektonV1alpha1().VerificationPolicies(namespace).Get(r.t.Context(), policy.MaterializedName(clusterPolicy), metav1.GetOptions{})
}

func (r *ruled) waitNoVerificationPolicy(namespace, clusterPolicy string) {
	r.t.Helper()
	r.eventually(soon, func() error {
		_, err := r.verificationPolicy(namespace, clusterPolicy)
		return gone(err)
	})
}

func (r *ruled) changeCVP(name string, change func(*v1alpha1.ClusterVerificationPolicySpec)) {
	r.t.Helper()
	r.eventually(soon, func() error { // the controller writes the status
		p, err := r.policies.Get(r.t.Context(), name, metav1.GetOptions{})
		if err == nil {
			change(&p.Spec)
			_, err = r.policies.Update(r.t.Context(), p, metav1.UpdateOptions{})
		}
		return err
	})
}

func (r *ruled) label(namespace, value string) {
	r.t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, everywhere, value)
	_, err := cluster.Kube.CoreV1().Namespaces().Patch(r.t.Context(), namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	r.check(err)
}

// trusts requires that a policy trusts the key of a signer only.
func (r *ruled) trusts(signer harness.Signer) func(*tekton.VerificationPolicy) error {
	pem := r.pem(signer)
	return func(p *tekton.VerificationPolicy) error {
		if len(p.Spec.Authorities) != 1 || p.Spec.Authorities[0].Key.Data != pem {
			return fmt.Errorf("the authorities are %+v, want %s", p.Spec.Authorities, pem)
		}
		return nil
	}
}

// Without a gate, Tekton itself refuses what the policy refuses, in each selected namespace, and
// the attestation says what decided. The VerificationPolicy follows the policy and the labels.
func TestMaterialized_TektonRefusesByClusterPolicies(t *testing.T) {
	r := startMaterialized(t)
	const name = "everywhere.example.dev"
	ns, other := r.group("yes"), r.group("no")
	r.put(r.materialized(name, "yes", tierOverride, 100, r.signer))
	r.waitVerificationPolicy(ns, name, r.trusts(r.signer))
	r.waitCondition(name, v1alpha1.PolicyMaterialized, metav1.ConditionTrue, v1alpha1.PolicySynced)
	found := r.waitCondition(name, v1alpha1.PolicyProtected, metav1.ConditionTrue, v1alpha1.PolicyInForce)
	if n := found.Status.Namespaces; n.Synced == nil || *n.Synced != 1 || n.Selected != 1 || len(n.NotSynced) > 0 {
		t.Errorf("the status says %+v", n)
	}
	for _, namespace := range []string{ns, other} {
		r.signedBy(&r.signer, newTask(namespace, "signed"))
		r.signedBy(nil, newTask(namespace, "unsigned"))
		for _, name := range []string{"signed", "unsigned"} {
			r.createTaskRun(namespace, name, &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, name)})
		}
	}
	r.expectSuccess(r.waitDone(ns, "signed"))
	r.expectRefused(r.waitDone(ns, "unsigned"))
	r.expectSuccess(r.waitDone(other, "unsigned"))
	verifications, summary := r.verificationStatus(r.waitAttestation(ns, "signed", false, soon))
	if summary.Result != "PASSED" || summary.Agreement != "AGREES" || len(verifications) != 1 ||
		verifications[0].Policy != name || verifications[0].PolicyScope != "cluster" {
		t.Errorf("the attestation says %+v: %+v", summary, verifications)
	}

	r.changeCVP(name, func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Authorities[0].Data = r.pem(r.otherSigner) })
	r.waitVerificationPolicy(ns, name, r.trusts(r.otherSigner))
	r.createTaskRun(ns, "other-key", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "signed")})
	r.expectRefused(r.waitDone(ns, "other-key"))

	r.label(other, "yes")
	r.waitVerificationPolicy(other, name, r.trusts(r.otherSigner))
	r.label(ns, "no")
	r.waitNoVerificationPolicy(ns, name)
	if _, err := r.verificationPolicy(other, name); err != nil {
		t.Errorf("the policy of another namespace: %v", err)
	}
	r.check(r.policies.Delete(t.Context(), name, metav1.DeleteOptions{}))
	r.waitNoVerificationPolicy(other, name)
}

// The keys of a KeyRing, or of the signing secret, are those of the VerificationPolicy.
func TestMaterialized_HasTheKeysThatSign(t *testing.T) {
	r := startMaterialized(t)
	r.configure(with(withProvenance, signAll))
	ns := r.group("yes")
	p := r.materialized("ring", "yes", tierOverride, 100)
	p.Spec.Authorities = []v1alpha1.PolicyAuthority{{Name: "ours", KeyRing: v1alpha1.KeyRingActive}}
	r.put(p)
	r.waitVerificationPolicy(ns, "ring", nil)
	r.createTask(newTask(ns, "ours"))
	r.labelNamespace(ns, "true")
	r.waitSigned(ns, "ours")
	r.runTasks(ns, "ours")
}

// A policy is written only where Tekton would decide as we do. It is withdrawn only when the
// gate enforces it.
func TestMaterialized_WaitsForTheGateBeforeItIsWithdrawn(t *testing.T) {
	r := startMaterialized(t)
	ns, free := r.group("yes"), r.group("free")
	base := r.materialized("base", "yes", tierOverride, 100, r.signer)
	base.Spec.NamespaceSelector = metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: everywhere, Operator: metav1.LabelSelectorOpIn, Values: []string{"yes", "free"}},
	}}
	r.put(base)
	r.waitVerificationPolicy(ns, "base", nil)
	r.put(r.cvp("exception", "yes", tierOverride, 10, modeSkip, "https://vendor.example/*"))
	found := r.waitCondition("base", v1alpha1.PolicyMaterialized, metav1.ConditionFalse, v1alpha1.PolicyOverlaps)
	if n := found.Status.Namespaces; *n.Synced != 1 || len(n.NotSynced) != 1 || n.NotSynced[0].Namespace != ns ||
		!strings.Contains(n.NotSynced[0].Message, "ClusterVerificationPolicy exception comes first") || !strings.Contains(n.NotSynced[0].Message, "until the gate is in force") {
		t.Errorf("the status says %+v", n)
	}
	if _, err := r.verificationPolicy(ns, "base"); err != nil {
		t.Errorf("withdrawn before the gate is in force: %v", err)
	}
	r.cleanup(func() error { return cluster.RemoveAdmission(cleanupContext()) })
	r.check(cluster.InstallAdmission(t.Context()))
	r.waitNoVerificationPolicy(ns, "base")
	r.waitVerificationPolicy(free, "base", nil)
	r.check(r.policies.Delete(t.Context(), "exception", metav1.DeleteOptions{}))
	r.waitVerificationPolicy(ns, "base", nil)

	// The tier Default gives way to policies of the namespace.
	own := r.group("own")
	r.put(r.materialized("default", "own", tierDefault, 500, r.signer))
	r.waitVerificationPolicy(own, "default", nil)
	r.createPolicy(own, "own", "https://a/.*", tekton.ModeEnforce, r.otherSigner)
	r.waitNoVerificationPolicy(own, "default")
	r.check(cluster.Tekton.TektonV1alpha1().VerificationPolicies(own).Delete(t.Context(), "own", metav1.DeleteOptions{}))
	r.waitVerificationPolicy(own, "default", nil)
}

// tenant returns the cluster as somebody with all rights on the policies of a namespace.
func (r *ruled) tenant(namespace string) *harness.Cluster {
	r.t.Helper()
	const user = "tenant"
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"tekton.dev"}, Resources: []string{"*"}, Verbs: []string{"*"}}},
	}
	_, err := cluster.Kube.RbacV1().Roles(namespace).Create(r.t.Context(), role, metav1.CreateOptions{})
	r.check(err)
	_, err = cluster.Kube.RbacV1().RoleBindings(namespace).Create(r.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	r.check(err)
	tenant := r.as(user)
	r.eventually(soon, func() error { // RBAC reaches the authorizer a moment later
		_, err := tenant.Tekton.TektonV1alpha1().VerificationPolicies(namespace).List(r.t.Context(), metav1.ListOptions{})
		return err
	})
	return tenant
}

// waitMaterializedGuard waits until the API server uses the guard, some time after it was
// installed.
func (r *ruled) waitMaterializedGuard(user *harness.Cluster, p *tekton.VerificationPolicy) {
	r.t.Helper()
	changed := p.DeepCopy()
	changed.Spec.Mode = tekton.ModeWarn
	r.eventually(soon, func() error {
		_, err := user.Tekton.TektonV1alpha1().VerificationPolicies(p.Namespace).Update(r.t.Context(), changed, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("the guard does not refuse a change: %w", orUnlimited(err))
		}
		return nil
	})
}

// tampering is what somebody with all rights on the policies of a namespace may try. Each
// starts from the policy as the controller wrote it.
var tampering = map[string]func(r *ruled, user *harness.Cluster, p *tekton.VerificationPolicy) error{
	"edit": func(r *ruled, user *harness.Cluster, p *tekton.VerificationPolicy) error {
		p.Spec.Mode = tekton.ModeWarn
		_, err := user.Tekton.TektonV1alpha1().VerificationPolicies(p.Namespace).Update(r.t.Context(), p, metav1.UpdateOptions{})
		return err
	},
	"remove the label": func(r *ruled, user *harness.Cluster, p *tekton.VerificationPolicy) error {
		p.Labels = nil
		_, err := user.Tekton.TektonV1alpha1().VerificationPolicies(p.Namespace).Update(r.t.Context(), p, metav1.UpdateOptions{})
		return err
	},
	"give to an owner": func(r *ruled, user *harness.Cluster, p *tekton.VerificationPolicy) error {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "gone"}}
		_, err := user.Tekton.TektonV1alpha1().VerificationPolicies(p.Namespace).Update(r.t.Context(), p, metav1.UpdateOptions{})
		return err
	},
	"apply by force": func(r *ruled, user *harness.Cluster, p *tekton.VerificationPolicy) error {
		force := true
		_, err := user.Tekton.TektonV1alpha1().VerificationPolicies(p.Namespace).Patch(r.t.Context(), p.Name, types.ApplyPatchType,
			[]byte(`{"apiVersion":"tekton.dev/v1alpha1","kind":"VerificationPolicy","metadata":{"name":"`+p.Name+`"},"spec":{"mode":"warn"}}`),
			metav1.PatchOptions{FieldManager: "tenant", Force: &force})
		return err
	},
	"delete": func(r *ruled, user *harness.Cluster, p *tekton.VerificationPolicy) error {
		return user.Tekton.TektonV1alpha1().VerificationPolicies(p.Namespace).Delete(r.t.Context(), p.Name, metav1.DeleteOptions{})
	},
	"delete the collection": func(r *ruled, user *harness.Cluster, p *tekton.VerificationPolicy) error {
		return user.Tekton.TektonV1alpha1().VerificationPolicies(p.Namespace).DeleteCollection(r.t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	},
	"forge": func(r *ruled, user *harness.Cluster, p *tekton.VerificationPolicy) error {
		forged := p.DeepCopy()
		forged.ObjectMeta = metav1.ObjectMeta{Namespace: p.Namespace, Name: "cvp-forged", Labels: map[string]string{v1alpha1.MaterializedLabel: "cvp-forged"}}
		_, err := user.Tekton.TektonV1alpha1().VerificationPolicies(p.Namespace).Create(r.t.Context(), forged, metav1.CreateOptions{})
		return err
	},
}

// The guard refuses changes by tenants and by administrators, and lets tenants have policies of
// their own.
func TestMaterialized_IsProtected(t *testing.T) {
	r := startMaterialized(t)
	ns := r.group("yes")
	tenant := r.tenant(ns)
	r.put(r.materialized("protected", "yes", tierOverride, 100, r.signer))
	original := r.waitVerificationPolicy(ns, "protected", nil)
	r.waitMaterializedGuard(tenant, original)
	for name, tamper := range tampering {
		t.Run(name, func(t *testing.T) {
			r := r.sub(t)
			for _, user := range []*harness.Cluster{tenant, cluster} {
				err := tamper(r, user, original.DeepCopy())
				if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "only the controller writes it") || name != "forge" && !strings.Contains(err.Error(), "ClusterVerificationPolicy protected") {
					t.Errorf("got error %v, want that the guard refuses", err)
				}
			}
		})
	}
	own := original.DeepCopy()
	own.ObjectMeta = metav1.ObjectMeta{Namespace: ns, Name: "own"}
	policies := tenant.Tekton.TektonV1alpha1().VerificationPolicies(ns)
	own, err := policies.Create(t.Context(), own, metav1.CreateOptions{})
	r.check(err)
	own.Labels = map[string]string{v1alpha1.MaterializedLabel: "own"}
	if _, err := policies.Update(t.Context(), own, metav1.UpdateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a policy of a tenant got the label: error %v", err)
	}
	r.check(policies.Delete(t.Context(), "own", metav1.DeleteOptions{}))
}

// Without the guard, the controller brings the policy back, and the status says that there is
// no guard.
func TestMaterialized_IsRepairedWithoutTheGuard(t *testing.T) {
	r := startMaterialized(t)
	ns := r.group("yes")
	tenant := r.tenant(ns)
	r.put(r.materialized("repaired", "yes", tierOverride, 100, r.signer))
	original := r.waitVerificationPolicy(ns, "repaired", nil)
	guards := cluster.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	r.check(guards.Delete(t.Context(), v1alpha1.MaterializedGuard, metav1.DeleteOptions{}))
	r.waitCondition("repaired", v1alpha1.PolicyProtected, metav1.ConditionFalse, v1alpha1.PolicyNotGuarded)
	for name, tamper := range tampering {
		t.Run(name, func(t *testing.T) {
			r := r.sub(t)
			r.eventually(soon, func() error { // the API server may still use the guard
				found, err := r.verificationPolicy(ns, "repaired")
				if err != nil {
					return err
				}
				return tamper(r, tenant, found)
			})
			began := time.Now()
			r.waitVerificationPolicy(ns, "repaired", func(p *tekton.VerificationPolicy) error {
				_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Get(t.Context(), "cvp-forged", metav1.GetOptions{})
				if p.Spec.Mode != original.Spec.Mode || p.Labels[v1alpha1.MaterializedLabel] != p.Name || len(p.OwnerReferences) > 0 || !apierrors.IsNotFound(err) {
					return errors.Join(fmt.Errorf("the policy is %+v, or the forged one is still there", p), err)
				}
				return nil
			})
			t.Logf("repaired within %v", time.Since(began).Round(time.Millisecond))
		})
	}
}

// A tenant who takes the name first, with a finalizer and an owner, loses it.
func TestMaterialized_TakesItsName(t *testing.T) {
	r := startMaterialized(t)
	ns := r.group("later")
	tenant := r.tenant(ns)
	name := policy.MaterializedName("taken")
	_, err := tenant.Tekton.TektonV1alpha1().VerificationPolicies(ns).Create(t.Context(), &tekton.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{"tenant.example.dev/never"}, Labels: map[string]string{"a": "b"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: "gone", UID: "gone"}}},
		Spec: tekton.VerificationPolicySpec{
			Mode: tekton.ModeWarn, Resources: []tekton.ResourcePattern{{Pattern: "none"}},
			Authorities: []tekton.Authority{{Name: "a", Key: &tekton.KeyRef{Data: r.pem(r.otherSigner), HashAlgorithm: "sha256"}}},
		},
	}, metav1.CreateOptions{})
	r.check(err)
	r.put(r.materialized("taken", "yes", tierOverride, 100, r.signer))
	r.label(ns, "yes")
	r.waitVerificationPolicy(ns, "taken", func(p *tekton.VerificationPolicy) error {
		if p.DeletionTimestamp != nil || len(p.Finalizers)+len(p.OwnerReferences) > 0 || len(p.Labels) != 1 || p.Spec.Mode != tekton.ModeEnforce {
			return fmt.Errorf("the policy is %+v", p)
		}
		return r.trusts(r.signer)(p)
	})
}

// A namespace with protected policies can be deleted, and its deletion changes nothing
// elsewhere. A controller that starts again writes nothing.
func TestMaterialized_LeavesOtherNamespacesAlone(t *testing.T) {
	r := startMaterialized(t)
	ns, doomed := r.group("yes"), r.group("yes")
	r.put(r.materialized("steady", "yes", tierOverride, 100, r.signer))
	before := r.waitVerificationPolicy(ns, "steady", nil)
	r.waitVerificationPolicy(doomed, "steady", nil)
	r.check(cluster.Kube.CoreV1().Namespaces().Delete(t.Context(), doomed, metav1.DeleteOptions{}))
	r.eventually(soon, func() error {
		_, err := cluster.Kube.CoreV1().Namespaces().Get(t.Context(), doomed, metav1.GetOptions{})
		return gone(err)
	})
	r.check(r.controller.Kill(t.Context()))
	r.check(r.controller.Start(t.Context()))
	later := r.group("yes") // when this one is written, the others were looked at
	r.waitVerificationPolicy(later, "steady", nil)
	r.waitCondition("steady", v1alpha1.PolicyMaterialized, metav1.ConditionTrue, v1alpha1.PolicySynced)
	after, err := r.verificationPolicy(ns, "steady")
	r.check(err)
	if before.ResourceVersion != after.ResourceVersion || before.UID != after.UID {
		t.Errorf("the policy was written again: %+v, then %+v", before.ObjectMeta, after.ObjectMeta)
	}
}

// Without config/materialize, the status says what is missing. A stolen token of the controller
// changes no other policy.
func TestMaterialized_NeedsItsRights(t *testing.T) {
	e := startController(t)
	r := newRuled(e)
	ns := r.group("yes")
	r.put(r.materialized("wanted", "yes", tierOverride, 100, r.signer))
	found := r.waitCondition("wanted", v1alpha1.PolicyMaterialized, metav1.ConditionFalse, v1alpha1.PolicyNotPermitted)
	if n := found.Status.Namespaces.NotSynced; len(n) != 1 || n[0].Namespace != ns || !strings.Contains(n[0].Message, "apply config/materialize") {
		t.Errorf("the status says %+v", n)
	}
	r.applyConfig("materialize")
	p := r.waitVerificationPolicy(ns, "wanted", nil)

	r.createPolicy(ns, "own", ".*", tekton.ModeEnforce, r.otherSigner)
	thief := r.as(ownAccount).Tekton.TektonV1alpha1().VerificationPolicies(ns)
	own, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Get(t.Context(), "own", metav1.GetOptions{})
	r.check(err)
	own.Spec.Mode = tekton.ModeWarn
	unlabelled := p.DeepCopy()
	unlabelled.ObjectMeta = metav1.ObjectMeta{Namespace: ns, Name: "cvp-unlabelled"}
	labelled := own.DeepCopy()
	labelled.Labels = map[string]string{v1alpha1.MaterializedLabel: "own"}
	for name, attempt := range map[string]func() error{
		"change":  func() error { _, err := thief.Update(t.Context(), own, metav1.UpdateOptions{}); return err },
		"take":    func() error { _, err := thief.Update(t.Context(), labelled, metav1.UpdateOptions{}); return err },
		"delete":  func() error { return thief.Delete(t.Context(), "own", metav1.DeleteOptions{}) },
		"create":  func() error { _, err := thief.Create(t.Context(), unlabelled, metav1.CreateOptions{}); return err },
		"unlabel": func() error { _, err := thief.Update(t.Context(), without(p), metav1.UpdateOptions{}); return err },
	} {
		if err := attempt(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "the service account of Tekton Chains may change") {
			t.Errorf("%s: got error %v, want that the API server refuses", name, err)
		}
	}
}

func without(p *tekton.VerificationPolicy) *tekton.VerificationPolicy {
	p = p.DeepCopy()
	p.Labels = nil
	return p
}

// The API server is killed three times while runs go on in a namespace that a policy enforces
// with the gate and with Tekton. No signed run fails because of the policy, and no unsigned run
// starts.
func TestMaterialized_HoldsOverRestartsOfTheAPIServer(t *testing.T) {
	r := startRuled(t)
	r.applyConfig("materialize")
	ns := r.group("yes")
	r.signedBy(&r.signer, newTask(ns, "signed"))
	r.signedBy(nil, newTask(ns, "unsigned"))
	r.put(r.materialized("restarts", "yes", tierOverride, 100, r.signer))
	r.waitVerificationPolicy(ns, "restarts", nil)
	r.waitReady("restarts")
	const rounds, signed, unsigned = 3, 8, 2
	start := func(kind string, count int) {
		for i := range count {
			run := newTaskRun(ns, fmt.Sprintf("%s-%d", kind, i), &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, strings.Split(kind, "-")[0])})
			r.eventually(2*soon, func() error { // the API server may not answer yet
				_, err := cluster.Tekton.TektonV1().TaskRuns(ns).Create(t.Context(), run, metav1.CreateOptions{})
				if apierrors.IsAlreadyExists(err) {
					return nil
				}
				return err
			})
		}
	}
	for round := range rounds {
		start(fmt.Sprintf("signed-before-%d", round), signed)
		start(fmt.Sprintf("unsigned-before-%d", round), unsigned)
		r.check(cluster.Control(t.Context(), "kill", harness.PartAPIServer))
		r.check(cluster.Control(t.Context(), "start", harness.PartAPIServer))
		start(fmt.Sprintf("unsigned-after-%d", round), unsigned)
		start(fmt.Sprintf("signed-after-%d", round), signed)
	}
	var runs *v1.TaskRunList
	r.eventually(6*soon, func() (err error) {
		if runs, err = cluster.Tekton.TektonV1().TaskRuns(ns).List(t.Context(), metav1.ListOptions{}); err != nil {
			return err
		}
		for i := range runs.Items {
			if run := &runs.Items[i]; !run.IsDone() {
				return fmt.Errorf("TaskRun %s is not done: %+v", run.Name, run.Status.Conditions)
			}
		}
		return nil
	})
	succeeded := r.judgeRestarts(runs.Items)
	if all := rounds * 2 * signed; len(runs.Items) != rounds*2*(signed+unsigned) || succeeded < all/2 {
		t.Errorf("%d TaskRuns, of which %d signed ones succeeded, want that most of %d do", len(runs.Items), succeeded, all)
	}
	r.waitReady("restarts")
}

// judgeRestarts returns how many of the signed runs succeeded. No other must have been refused, and
// no unsigned one may have succeeded.
func (r *ruled) judgeRestarts(runs []v1.TaskRun) (succeeded int) {
	r.t.Helper()
	refused := []string{v1.TaskRunReasonResourceVerificationFailed.String(), v1.TaskRunReasonCancelled.String()}
	for i := range runs {
		run := &runs[i]
		condition := run.Status.GetCondition(apis.ConditionSucceeded)
		switch wanted := strings.HasPrefix(run.Name, "signed"); {
		case run.IsSuccessful() && wanted:
			succeeded++
		case run.IsSuccessful(), wanted && slices.Contains(refused, condition.Reason):
			r.t.Errorf("TaskRun %s succeeded: %t, want %t: %+v", run.Name, !wanted, wanted, condition)
		case wanted:
			r.t.Logf("TaskRun %s: Tekton gives up while the API server starts: %s", run.Name, condition.Message)
		}
	}
	return succeeded
}
