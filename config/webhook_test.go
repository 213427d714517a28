// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// decodeAll reads the objects of a kind in a file. Unknown fields are an error.
func decodeAll[T any](t *testing.T, file, kind string) (found []T) {
	t.Helper()
	content, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	for document := range bytes.SplitSeq(content, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(document, &meta); err != nil {
			t.Fatal(err)
		}
		if meta.Kind != kind {
			continue
		}
		var object T
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			t.Fatal(err)
		}
		found = append(found, object)
	}
	return found
}

// The webhook is called exactly for what the policies of config/admission rewrite, in the
// same namespaces.
func TestWebhook_IsCalledForWhatThePoliciesDo(t *testing.T) {
	webhooks := decodeAll[registrationv1.MutatingWebhookConfiguration](t, "webhook/500-webhook-configuration.yaml", "MutatingWebhookConfiguration")[0].Webhooks
	for _, file := range []string{"admission/500-rewrite-taskruns.yaml", "admission/501-rewrite-pipelineruns.yaml", "admission/510-hold-pods.yaml"} {
		policy := decodeAll[registrationv1.MutatingAdmissionPolicy](t, file, "MutatingAdmissionPolicy")[0]
		for _, binding := range decodeAll[registrationv1.MutatingAdmissionPolicyBinding](t, file, "MutatingAdmissionPolicyBinding") {
			if binding.Spec.ParamRef != nil { // the webhook knows no ClusterVerificationPolicies
				continue
			}
			at := slices.IndexFunc(webhooks, func(w registrationv1.MutatingWebhook) bool { return w.Name == binding.Name })
			if at < 0 {
				t.Errorf("%s: no webhook %s", file, binding.Name)
				continue
			}
			expectCalledAs(t, webhooks[at], policy, binding)
		}
	}
	for _, webhook := range webhooks {
		if *webhook.FailurePolicy != registrationv1.Fail || *webhook.ReinvocationPolicy != registrationv1.IfNeededReinvocationPolicy ||
			*webhook.TimeoutSeconds > 5 || webhook.NamespaceSelector == nil {
			t.Errorf("%s: fails open, is not invoked again, waits for long or is called in every namespace", webhook.Name)
		}
	}
}

// ofTheProbe is the part of a condition that the webhook does not need: with its Pod the
// controller asks for the state of the ConfigMap of ClusterVerificationPolicies.
const ofTheProbe = ` || request.namespace == "tekton-chains-gate-probe" && object.metadata.?name.orValue("") == "hold-probe"`

// expectCalledAs requires that a webhook has the conditions of a policy and the namespaces
// of its binding.
func expectCalledAs(
	t *testing.T, webhook registrationv1.MutatingWebhook, policy registrationv1.MutatingAdmissionPolicy, binding registrationv1.MutatingAdmissionPolicyBinding,
) {
	t.Helper()
	if len(webhook.MatchConditions) != len(policy.Spec.MatchConditions) {
		t.Errorf("%s: %d conditions, the policy has %d", webhook.Name, len(webhook.MatchConditions), len(policy.Spec.MatchConditions))
		return
	}
	for i, condition := range policy.Spec.MatchConditions {
		expression := strings.TrimSuffix(condition.Expression, ofTheProbe)
		if got := webhook.MatchConditions[i]; got.Name != condition.Name || got.Expression != expression {
			t.Errorf("%s: condition %s is\n%s\nthat of the policy\n%s", webhook.Name, got.Name, got.Expression, condition.Expression)
		}
	}
	if got, want := webhook.NamespaceSelector.String(), binding.Spec.MatchResources.NamespaceSelector.String(); got != want {
		t.Errorf("%s: namespaces %s, those of the policy are %s", webhook.Name, got, want)
	}
}

// The signing key is a Secret in the namespace of the webhook.
func TestWebhook_ReadsNoSecretButItsOwn(t *testing.T) {
	var rules []rbacv1.PolicyRule
	for _, role := range decodeAll[rbacv1.ClusterRole](t, "webhook/201-rbac.yaml", "ClusterRole") {
		if slices.ContainsFunc(role.Rules, readsSecrets) {
			t.Errorf("ClusterRole %s may read Secrets: %+v", role.Name, role.Rules)
		}
	}
	for _, role := range decodeAll[rbacv1.Role](t, "webhook/201-rbac.yaml", "Role") {
		rules = append(rules, role.Rules...)
	}
	rules = slices.DeleteFunc(rules, func(rule rbacv1.PolicyRule) bool { return !readsSecrets(rule) })
	if len(rules) != 1 || !slices.Equal(rules[0].ResourceNames, []string{"trusted-resources-webhook-certs"}) || slices.Contains(rules[0].Verbs, "*") {
		t.Errorf("the rules about Secrets are %+v, want one for the certificate", rules)
	}
}

func readsSecrets(rule rbacv1.PolicyRule) bool {
	return slices.Contains(rule.Resources, "secrets") || slices.Contains(rule.Resources, "*")
}
