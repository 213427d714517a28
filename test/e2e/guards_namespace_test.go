// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// relabel sets the label of enforcement in a dry run; null removes the label.
func (e *env) relabel(as *harness.Cluster, namespace, value string, subresources ...string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, v1alpha1.VerifyLabel, value)
	_, err := as.Kube.CoreV1().Namespaces().Patch(e.t.Context(), namespace, types.MergePatchType, []byte(patch), dryRunPatch, subresources...)
	return err
}

// Whoever may write namespaces may begin enforcement. To end it, the verb "open" is
// needed, for this namespace, from a ClusterRoleBinding.
func TestGuards_EndEnforcementOnlyForTheVerbOpen(t *testing.T) {
	e := newEnv(t)
	e.installAdmission()
	ns, other := e.enforced(), e.enforced()
	editor := e.hostileIn(ns)
	const provisioner, opener = "provisioner", "opener"
	writes := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"namespaces", "namespaces/status", "namespaces/finalize"}, Verbs: []string{"get", "patch", "update"}}
	open := rbacv1.PolicyRule{APIGroups: []string{v1alpha1.Group}, Resources: []string{"gates"}, ResourceNames: []string{ns}, Verbs: []string{"open"}}
	e.grant(provisioner, writes)
	e.grant(opener, writes, open)
	e.allowEverythingIn(ns, provisioner)
	for _, user := range []string{provisioner, opener} {
		e.waitMay(user, true, authorizationv1.ResourceAttributes{Verb: "patch", Resource: "namespaces", Name: ns})
	}

	e.eventually(soon, func() error { // the API server uses the policies one after the other
		err := e.relabel(e.as(provisioner), ns, "null")
		if err == nil || !strings.Contains(err.Error(), guardOfNamespaces) {
			return fmt.Errorf("namespaces are not guarded: %w", orUnlimited(err))
		}
		return nil
	})
	for _, value := range []string{"null", `"warn"`, `"Enforce"`} {
		t.Run("to "+value, func(t *testing.T) {
			e := e.sub(t)
			if err := e.relabel(editor, ns, value); err == nil || !strings.Contains(err.Error(), "cannot patch resource") {
				t.Errorf("an editor: got %v, want no right", err)
			}
			expectGuarded(t, e.relabel(e.as(provisioner), ns, value), guardOfNamespaces)
			expectGuarded(t, e.relabel(e.as(provisioner), ns, value, "status"), guardOfNamespaces)
			expectGuarded(t, e.relabel(e.as(opener), other, value), guardOfNamespaces)
			e.check(e.relabel(e.as(opener), ns, value))
			e.check(e.relabel(cluster, ns, value)) // an administrator
		})
	}
	t.Run("to enforce", func(t *testing.T) {
		e := e.sub(t)
		e.check(e.relabel(e.as(provisioner), e.namespaceLabelled(nil), `"enforce"`))
		if err := e.relabel(editor, ns, `"enforce"`); err == nil {
			t.Error("an editor labels a namespace")
		}
	})
	t.Run("is in the audit log", func(t *testing.T) {
		e := e.sub(t)
		_, err := e.as(opener).Kube.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType,
			[]byte(`{"metadata":{"labels":{"`+v1alpha1.VerifyLabel+`":null}}}`), metav1.PatchOptions{})
		e.check(err)
		e.waitAudited(ns, guardOfNamespaces+"/open", opener+" ends enforcement in namespace "+ns)
	})
}

// waitAudited waits until the audit log has an entry of an accepted request about an
// object of a name, with an annotation of this value.
func (e *env) waitAudited(name, key, value string) {
	e.t.Helper()
	e.eventually(soon, func() error {
		for entry, err := range cluster.AuditEvents(0) {
			if err != nil {
				return err
			}
			if entry.ObjectRef != nil && entry.ObjectRef.Name == name && entry.ResponseStatus != nil && entry.ResponseStatus.Code == http.StatusOK && strings.Contains(entry.Annotations[key], value) {
				return nil
			}
		}
		return fmt.Errorf("no entry about %s with annotation %s: %s", name, key, value)
	})
}
