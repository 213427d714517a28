// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// The API server refuses what cannot be evaluated, and says why.
func TestClusterPolicy_IsValidated(t *testing.T) {
	r := newRuled(newEnv(t))
	for name, tc := range map[string]struct {
		change func(*v1alpha1.ClusterVerificationPolicySpec)
		want   string // in the error; empty: accepted
	}{
		"enforce": {func(*v1alpha1.ClusterVerificationPolicySpec) {}, ""},
		"skip":    {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Mode, s.Authorities = modeSkip, nil }, ""},
		"KeyRing": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Authorities = authority(v1alpha1.PolicyAuthority{KeyRing: "active"})
		}, ""},
		"Secret": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Authorities = authority(v1alpha1.PolicyAuthority{SecretRef: &v1alpha1.PolicySecret{Name: "a", Key: "b"}})
		}, ""},
		"pattern": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Pattern: `https://(a|b)\.example/.*`})
		}, ""},
		"namespace in source": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Source: "/apis/tekton.dev/v1/namespaces/$(namespace)/*"})
		}, ""},

		"tier":                  {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Tier = "First" }, "spec.tier"},
		"no tier":               {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Tier = "" }, "spec.tier"},
		"mode":                  {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Mode = "deny" }, "spec.mode"},
		"priority":              {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Priority = 1001 }, "spec.priority"},
		"no resources":          {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Resources = nil }, "spec.resources"},
		"skip with authorities": {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Mode = modeSkip }, "mode skip has none"},
		"enforce without":       {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Authorities = nil }, "modes enforce and warn need authorities"},
		"skip with a pattern": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Mode, s.Authorities, s.Resources = modeSkip, nil, matching(v1alpha1.PolicyResource{Pattern: "a"})
		}, "mode skip needs a source"},
		"source and pattern": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Source: "a", Pattern: "a"})
		}, "either source or pattern"},
		"neither": {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Resources = matching(v1alpha1.PolicyResource{}) }, "either source or pattern"},
		"star in the middle": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Source: "https://*/a"})
		}, "* only at its end"},
		"white space": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Source: "a b"})
		}, "no white space"},
		"pattern with an anchor": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Pattern: "^a"})
		}, "without ^"},
		"no regular expression": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Pattern: "("})
		}, "regular expression"},
		"escaped end": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Pattern: `x\$`})
		}, "without ^"},
		"escape at the end": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Resources = matching(v1alpha1.PolicyResource{Pattern: `x\`})
		}, "regular expression"},
		"two keys": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Authorities = authority(v1alpha1.PolicyAuthority{Data: "a", KMS: "b"})
		}, "exactly one of"},
		"no key": {func(s *v1alpha1.ClusterVerificationPolicySpec) { s.Authorities = authority(v1alpha1.PolicyAuthority{}) }, "exactly one of"},
		"hash of a KeyRing": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Authorities = authority(v1alpha1.PolicyAuthority{KeyRing: "active", HashAlgorithm: "sha512"})
		}, "sha256"},
		"another KeyRing": {func(s *v1alpha1.ClusterVerificationPolicySpec) {
			s.Authorities = authority(v1alpha1.PolicyAuthority{KeyRing: "2027"})
		}, "keyRing"},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.cvp("validated", "none", tierOverride, 100, modeEnforce, "*", r.signer)
			tc.change(&p.Spec)
			_, err := r.policies.Create(t.Context(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if tc.want == "" && err != nil || tc.want != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
	defaulted, err := cluster.RunKubectl(t.Context(), `{"apiVersion":"trustedresources.tekton.dev/v1alpha1","kind":"ClusterVerificationPolicy","metadata":{"name":"d"},
		"spec":{"tier":"Default","namespaceSelector":{},"resources":[{"source":"*"}],"mode":"warn","authorities":[{"name":"ours","keyRing":"active"}]}}`,
		"create", "--dry-run=server", "-o", "jsonpath={.spec.priority} {.spec.authorities[0].hashAlgorithm}", "-f", "-")
	if err != nil || defaulted != "500 sha256" {
		t.Errorf("the defaults are %q (error %v), want 500 and sha256", defaulted, err)
	}
	_, err = cluster.RunKubectl(t.Context(), `{"apiVersion":"trustedresources.tekton.dev/v1alpha1","kind":"ClusterVerificationPolicy","metadata":{"name":"d"},
		"spec":{"tier":"Default","namespaceSelector":{},"resources":[{"source":"*"}],"mode":"skip","except":["b"]}}`, "create", "--dry-run=server", "-f", "-")
	if err == nil || !strings.Contains(err.Error(), "spec.except") {
		t.Errorf("an unknown field: got error %v", err)
	}
	if _, err := cluster.RunKubectl(t.Context(), "", "apply", "--dry-run=server", "-f", filepath.Join(harness.Root(), "config", "samples", "policies")); err != nil {
		t.Errorf("the sample is refused: %v", err)
	}
	explained, err := cluster.RunKubectl(t.Context(), "", "explain", "cvp.spec.tier")
	if err != nil || !strings.Contains(explained, "before the") {
		t.Errorf("kubectl explain says %q (error %v)", explained, err)
	}
}

func authority(a v1alpha1.PolicyAuthority) []v1alpha1.PolicyAuthority {
	a.Name = "key"
	return []v1alpha1.PolicyAuthority{a}
}

func matching(resources ...v1alpha1.PolicyResource) []v1alpha1.PolicyResource { return resources }

// A policy is never in force without its keys. A key that was read once stays in use while
// its Secret is missing.
func TestClusterPolicy_KeepsItsKeys(t *testing.T) {
	r := startRuled(t)
	ns := r.group("keys")
	r.signedBy(&r.signer, newTask(ns, "signed"))
	r.signedBy(nil, newTask(ns, "unsigned"))
	p := r.cvp("from-secret", "keys", tierOverride, 1, modeEnforce, "*")
	p.Spec.Authorities = authority(v1alpha1.PolicyAuthority{SecretRef: &v1alpha1.PolicySecret{Name: "vendor-key", Key: "cosign.pub"}})
	r.put(p)
	r.waitCondition(p.Name, v1alpha1.PolicyAccepted, metav1.ConditionFalse, v1alpha1.PolicyInvalidKey)
	secrets := cluster.Kube.CoreV1().Secrets(harness.SystemNamespace)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "vendor-key"}, Data: map[string][]byte{"cosign.pub": []byte(r.pem(r.signer)), "other": []byte("x")}}
	_, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{})
	r.check(err)
	r.cleanup(func() error {
		return ignoreNotFound(secrets.Delete(cleanupContext(), "vendor-key", metav1.DeleteOptions{}))
	})
	id, err := r.signer.PublicKey()
	r.check(err)
	if ready := r.waitReady(p.Name); ready.Status.Authorities[0].PublicKey != r.pem(r.signer) || id == nil {
		t.Errorf("the authorities are %+v", ready.Status.Authorities)
	}
	r.check(secrets.Delete(t.Context(), "vendor-key", metav1.DeleteOptions{}))
	r.waitCondition(p.Name, v1alpha1.PolicyAccepted, metav1.ConditionTrue, v1alpha1.PolicyKeysKept)
	r.restart()
	for _, name := range []string{"signed", "unsigned"} {
		r.createTaskRun(ns, name, &v1.TaskRef{Name: name})
	}
	r.expectSuccess(r.waitDone(ns, "signed"))
	r.expectHeldBack(r.waitDone(ns, "unsigned"), "Unsigned", p.Name)
	// A change that cannot be used leaves the last state in force.
	_, err = r.policies.Patch(t.Context(), p.Name, types.MergePatchType, []byte(`{"spec":{"authorities":[{"name":"key","data":"no key"}]}}`), metav1.PatchOptions{})
	r.check(err)
	refused := r.waitCondition(p.Name, v1alpha1.PolicyAccepted, metav1.ConditionFalse, v1alpha1.PolicyInvalidKey)
	if c := meta.FindStatusCondition(refused.Status.Conditions, v1alpha1.PolicyAccepted); !strings.Contains(c.Message, "stays in force") {
		t.Errorf("the message is %q", c.Message)
	}
	r.createTaskRun(ns, "again", &v1.TaskRef{Name: "unsigned"})
	r.expectHeldBack(r.waitDone(ns, "again"), "Unsigned", p.Name)
}

// restart ends the controller, and starts a new process.
func (r *ruled) restart() {
	r.t.Helper()
	r.check(r.controller.Stop(r.t.Context()))
	r.check(r.controller.Start(r.t.Context()))
}

// When the definition of the policies is deleted, they stay in force, also after a restart,
// until somebody deletes the ConfigMap or creates them again.
func TestClusterPolicy_OutlivesItsDefinition(t *testing.T) {
	r := startRuled(t)
	ns := r.group("outlives")
	r.signedBy(nil, newTask(ns, "unsigned"))
	r.put(r.cvp("outlives", "outlives", tierOverride, 1, modeEnforce, "*", r.signer))
	r.waitReady("outlives")
	definition := filepath.Join(harness.Root(), "config", "101-clusterverificationpolicies.yaml")
	r.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "apply", "-f", definition)
		return err
	})
	_, err := cluster.RunKubectl(t.Context(), "", "delete", "--wait=true", "-f", definition)
	r.check(err)
	refused := func(name string) {
		t.Helper()
		r.createTaskRun(ns, name, &v1.TaskRef{Name: "unsigned"})
		r.expectHeldBack(r.waitDone(ns, name), "Unsigned", "outlives")
	}
	refused("without-definition")
	r.restart()
	refused("after-restart")
	_, err = cluster.RunKubectl(t.Context(), "", "apply", "-f", definition)
	r.check(err)
	refused("with-new-definition")
	r.eventually(soon, func() error {
		log, err := r.controller.Log()
		if err == nil && !strings.Contains(log, "the policies stay in force") {
			err = fmt.Errorf("the log does not say that the policies stay in force")
		}
		return err
	})
	r.check(cluster.Kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace).Delete(t.Context(), v1alpha1.ClusterPoliciesConfigMap, metav1.DeleteOptions{}))
	r.eventually(soon, func() error {
		_, err := cluster.Kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace).Get(t.Context(), v1alpha1.ClusterPoliciesConfigMap, metav1.GetOptions{})
		return gone(err)
	})
	r.createTaskRun(ns, "ended", &v1.TaskRef{Name: "unsigned"})
	r.expectSuccess(r.waitDone(ns, "ended"))
}

// Policies of the namespace that get in the way are named in the status, and Tekton refuses
// what the policy for the cluster accepts: examples 3 and 16.
func TestClusterPolicy_ReportsConflicts(t *testing.T) {
	r := newRuled(startController(t))
	for pattern, reason := range map[string]string{".*": v1alpha1.PolicyConflicting, `x\$`: v1alpha1.PolicyNamespaceBroken} {
		t.Run(reason, func(t *testing.T) {
			r := r.sub(t)
			name := strings.ToLower(reason)
			ns := r.group(name)
			r.signedBy(&r.signer, newTask(ns, "signed"))
			r.createPolicy(ns, "own", pattern, "enforce", r.otherSigner)
			r.put(r.cvp(name, name, tierOverride, 100, modeEnforce, "*", r.signer))
			var found *v1alpha1.ClusterVerificationPolicy
			expect := func(conflicting int32) {
				t.Helper()
				r.eventually(soon, func() (err error) {
					if found, err = r.policies.Get(t.Context(), name, metav1.GetOptions{}); err == nil && (found.Status.Namespaces.Conflicting != conflicting || len(found.Status.Namespaces.Conflicts) != int(conflicting)) {
						err = fmt.Errorf("the status says %+v, want %d conflicts", found.Status.Namespaces, conflicting)
					}
					return err
				})
			}
			expect(1)
			if conflict := found.Status.Namespaces.Conflicts[0]; conflict.Namespace != ns || conflict.Reason != reason || !strings.Contains(conflict.Message, "VerificationPolicy own") {
				t.Errorf("got %+v", conflict)
			}
			r.waitEvent(found, v1alpha1.ReasonPolicyConflicts, ns, "VerificationPolicy own")
			r.runExpectingRefusal(ns, "signed")
			r.check(cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns).Delete(t.Context(), "own", metav1.DeleteOptions{}))
			expect(0)
			r.waitEvent(found, v1alpha1.ReasonPolicyConflictsEnded)
			r.runTasks(ns, "signed")
		})
	}
}

// The controller keeps a signature of a key that a policy trusts, and signs the resource itself
// when the policy is gone.
func TestClusterPolicy_KeepsSignaturesOfItsAuthorities(t *testing.T) {
	r := newRuled(startController(t))
	ns := r.namespaceLabelled(map[string]string{v1alpha1.SignLabel: "true", everywhere: "vendor"})
	theirs, vendor := r.foreignTask(ns)
	p := r.cvp("vendor", "vendor", tierOverride, 100, modeWarn, "*", r.otherSigner)
	p.Spec.Authorities[0].Data = vendor.publicKeyPEM()
	r.put(p)
	r.waitCondition("vendor", v1alpha1.PolicyAccepted, metav1.ConditionTrue, v1alpha1.PolicyInForce)
	r.createTask(theirs)
	r.createTask(newTask(ns, "after"))
	r.waitSigned(ns, "after")
	if got := r.getTask(ns, "theirs"); signature(got) != signature(theirs) {
		t.Error("the signature of the vendor was overwritten")
	}
	r.check(r.policies.Delete(t.Context(), "vendor", metav1.DeleteOptions{}))
	r.waitSigned(ns, "theirs")
}
