// SPDX-License-Identifier: Apache-2.0

//go:build rotation

package e2e

import (
	"slices"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// upkeep is how a policy gets the keys that it trusts.
type upkeep string

const (
	injectedKeys upkeep = "injected"  // by the controller
	secretKeys   upkeep = "secretRef" // a Secret for each key, by an administrator
	inlineKeys   upkeep = "inline"    // by an administrator
)

// upkeeps are those of the namespaces of a load, in turn.
var upkeeps = []upkeep{injectedKeys, secretKeys, injectedKeys, inlineKeys}

// loadNamespace is a namespace with one policy, which enforces.
type loadNamespace struct {
	name   string
	upkeep upkeep
}

const loadPolicy = "enforce"

// createPolicy creates the policy, which trusts one key.
func (ns loadNamespace) createPolicy(e *env, key ringKey) {
	e.t.Helper()
	policy := &tekton.VerificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: loadPolicy},
		Spec: tekton.VerificationPolicySpec{
			Resources: []tekton.ResourcePattern{{Pattern: ".*"}}, Mode: tekton.ModeEnforce,
			Authorities: []tekton.Authority{ns.authority(e, key)},
		},
	}
	if ns.upkeep == injectedKeys {
		policy.Annotations = map[string]string{v1alpha1.InjectKeysAnnotation: "true"}
		policy.Spec.Authorities[0].Name = "keyring-first" // the controller replaces this one
	}
	_, err := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns.name).Create(e.t.Context(), policy, metav1.CreateOptions{})
	e.check(err)
}

// authority returns the authority of a key, and creates the Secret that the authority
// names.
func (ns loadNamespace) authority(e *env, key ringKey) tekton.Authority {
	e.t.Helper()
	authority := key.authority(e)
	if ns.upkeep != secretKeys {
		return authority
	}
	pem, err := cryptoutils.MarshalPublicKeyToPEM(key.public)
	e.check(err)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: authority.Name}, Data: map[string][]byte{"cosign.pub": pem}}
	_, err = cluster.Kube.CoreV1().Secrets(ns.name).Create(e.t.Context(), secret, metav1.CreateOptions{})
	e.check(err)
	authority.Key = &tekton.KeyRef{SecretRef: &corev1.SecretReference{Namespace: ns.name, Name: secret.Name}, HashAlgorithm: "sha256"}
	return authority
}

// trust makes the policies that an administrator keeps trust one more key.
func (l *runLoad) trust(key ringKey) {
	l.t.Helper()
	l.editPolicies(func(ns loadNamespace, spec *tekton.VerificationPolicySpec) {
		spec.Authorities = append(spec.Authorities, ns.authority(l.env, key))
	})
}

// distrust makes these policies trust a key no more.
func (l *runLoad) distrust(key ringKey) {
	l.t.Helper()
	name := key.authority(l.env).Name
	l.editPolicies(func(_ loadNamespace, spec *tekton.VerificationPolicySpec) {
		spec.Authorities = slices.DeleteFunc(spec.Authorities, func(a tekton.Authority) bool { return a.Name == name })
	})
}

func (l *runLoad) editPolicies(edit func(loadNamespace, *tekton.VerificationPolicySpec)) {
	l.t.Helper()
	for _, ns := range l.namespaces {
		if ns.upkeep == injectedKeys {
			continue
		}
		policies := cluster.Tekton.TektonV1alpha1().VerificationPolicies(ns.name)
		policy, err := policies.Get(l.t.Context(), loadPolicy, metav1.GetOptions{})
		l.check(err)
		edit(ns, &policy.Spec)
		_, err = policies.Update(l.t.Context(), policy, metav1.UpdateOptions{})
		l.check(err)
	}
}
