// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1beta1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	ours "github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/config"
)

const (
	// registrationName is the MutatingWebhookConfiguration in config/webhook.
	registrationName = "webhook.trustedresources.tekton.dev"
	// requesterSuffix is the end of the names of the webhooks for requesters. They are not
	// in config/webhook: this program adds and removes them.
	requesterSuffix = "requester.trustedresources.tekton.dev"

	timeoutSeconds = 5
)

// register returns the webhooks that the API server is to call: those of the manifest,
// and those for requesters if the configuration asks for requesters. Without a usable
// configuration (nil), those for requesters stay. Each trusts the certificate authorities
// in bundle.
func register(found []registrationv1.MutatingWebhook, c *config.Config, account string, bundle []byte) ([]registrationv1.MutatingWebhook, error) {
	webhooks := make([]registrationv1.MutatingWebhook, 0, len(found))
	for _, webhook := range found {
		if c == nil || !strings.HasSuffix(webhook.Name, requesterSuffix) {
			webhooks = append(webhooks, *webhook.DeepCopy())
		}
	}
	if len(webhooks) == 0 {
		return nil, fmt.Errorf("the MutatingWebhookConfiguration %s has no webhook, expected those of config/webhook; apply config/webhook", registrationName)
	}
	for _, selector := range requesterSelectors(c) {
		webhooks = append(webhooks, requesterWebhook(selector, account, *webhooks[0].ClientConfig.DeepCopy()))
	}
	for i := range webhooks {
		webhooks[i].ClientConfig.CABundle = slices.Clone(bundle)
	}
	return webhooks, nil
}

// requesterSelectors select the namespaces whose resources are signed, as Config.Selects
// does, by the names of the webhooks. One selector cannot say "absent or true".
func requesterSelectors(c *config.Config) (selectors []namedSelector) {
	if c == nil || c.Requester == config.RequesterOff {
		return nil
	}
	selectors = append(selectors, namedSelector{requesterSuffix, metav1.LabelSelector{MatchLabels: map[string]string{ours.SignLabel: "true"}}})
	if c.Namespaces == config.NamespacesAll {
		absent := []metav1.LabelSelectorRequirement{{Key: ours.SignLabel, Operator: metav1.LabelSelectorOpDoesNotExist}}
		selectors = append(selectors, namedSelector{"unlabelled." + requesterSuffix, metav1.LabelSelector{MatchExpressions: absent}})
	}
	return selectors
}

type namedSelector struct {
	name       string
	namespaces metav1.LabelSelector
}

// requesterWebhook returns the webhook for the writes of resources in all versions. It is
// not called for the controller, which the policies in config/ limit to signatures, nor
// for the dry runs in which Tekton validates what a resolver fetched.
func requesterWebhook(selector namedSelector, account string, client registrationv1.WebhookClientConfig) registrationv1.MutatingWebhook {
	return registrationv1.MutatingWebhook{
		Name: selector.name, ClientConfig: client, NamespaceSelector: &selector.namespaces,
		Rules: []registrationv1.RuleWithOperations{
			rule([]string{v1.SchemeGroupVersion.Version, v1beta1.SchemeGroupVersion.Version}, pipeline.TaskResource.Resource, pipeline.PipelineResource.Resource),
			rule([]string{v1alpha1.SchemeGroupVersion.Version, v1beta1.SchemeGroupVersion.Version}, pipeline.StepActionResource.Resource),
		},
		MatchConditions: []registrationv1.MatchCondition{
			{Name: "not-a-signature", Expression: fmt.Sprintf("request.userInfo.username != %q", account)},
			{Name: "not-a-dry-run-of-tekton", Expression: `!(request.?dryRun.orValue(false) && ` +
				`request.userInfo.username.startsWith("system:serviceaccount:") && request.userInfo.username.endsWith(":tekton-pipelines-controller"))`},
		},
		FailurePolicy:           new(registrationv1.Fail),
		SideEffects:             new(registrationv1.SideEffectClassNone),
		ReinvocationPolicy:      new(registrationv1.IfNeededReinvocationPolicy),
		MatchPolicy:             new(registrationv1.Equivalent),
		TimeoutSeconds:          new(int32(timeoutSeconds)),
		AdmissionReviewVersions: []string{"v1"},
		ObjectSelector:          &metav1.LabelSelector{},
	}
}

func rule(versions []string, resources ...string) registrationv1.RuleWithOperations {
	return registrationv1.RuleWithOperations{
		Operations: []registrationv1.OperationType{registrationv1.Create, registrationv1.Update},
		Rule: registrationv1.Rule{
			APIGroups: []string{pipeline.GroupName}, APIVersions: versions, Resources: resources, Scope: new(registrationv1.NamespacedScope),
		},
	}
}
