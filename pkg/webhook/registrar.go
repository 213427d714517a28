// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"bytes"
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedregistration "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	registrationlisters "k8s.io/client-go/listers/admissionregistration/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/clock"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/reconciler"
	"knative.dev/pkg/webhook/certificates/resources"

	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// registrar keeps our MutatingWebhookConfiguration as the configuration and the
// certificate demand it. It also answers the calls, because knative expects both of one
// object.
type registrar struct {
	*mutator
	reconciler.LeaderAwareFuncs

	secret        types.NamespacedName // with the certificate
	account       string               // of the controller
	secrets       corelisters.SecretLister
	registrations registrationlisters.MutatingWebhookConfigurationLister
	client        typedregistration.MutatingWebhookConfigurationsGetter
	clock         clock.PassiveClock
}

var (
	_ controller.Reconciler  = (*registrar)(nil)
	_ reconciler.LeaderAware = (*registrar)(nil)
)

// registrationKey is the only key of the work queue.
var registrationKey = types.NamespacedName{Name: registrationName}

// measure returns when the certificate of the webhook expires.
func (r *registrar) measure() []observe.Measurement {
	secret, err := r.secrets.Secrets(r.secret.Namespace).Get(r.secret.Name)
	if err != nil {
		return nil
	}
	return observe.CertificateNotAfter("webhook", secret.Data[resources.ServerCert])
}

// Reconcile implements controller.Reconciler.
func (r *registrar) Reconcile(ctx context.Context, key string) error {
	if !r.IsLeaderFor(registrationKey) {
		return controller.NewSkipKey(key)
	}
	secret, err := r.secrets.Secrets(r.secret.Namespace).Get(r.secret.Name)
	if err != nil {
		return fmt.Errorf("the Secret %s for the certificate of the webhook: %w; apply config/webhook", r.secret, err)
	}
	ca := secret.Data[resources.CACert]
	if len(ca) == 0 {
		return controller.NewSkipKey(key) // the next event of the Secret brings it
	}
	found, err := r.registrations.Get(registrationName)
	if err != nil {
		return fmt.Errorf("the MutatingWebhookConfiguration %s: %w; apply config/webhook", registrationName, err)
	}
	wanted := found.DeepCopy()
	var before []byte
	if len(found.Webhooks) > 0 {
		before = found.Webhooks[0].ClientConfig.CABundle
	}
	wanted.Webhooks, err = register(found.Webhooks, r.config(), r.account, withPrevious(ca, before, r.clock.Now()))
	if err != nil {
		return controller.NewPermanentError(err)
	}
	if equality.Semantic.DeepEqual(found, wanted) {
		return nil
	}
	_, err = r.client.MutatingWebhookConfigurations().Update(ctx, wanted, metav1.UpdateOptions{})
	return err
}

// certified reports whether there is a certificate to answer with, and the API server is
// told to trust it.
func (r *registrar) certified() bool {
	secret, err := r.secrets.Secrets(r.secret.Namespace).Get(r.secret.Name)
	if err != nil || len(secret.Data[resources.CACert]) == 0 || len(secret.Data[resources.ServerCert]) == 0 {
		return false
	}
	found, err := r.registrations.Get(registrationName)
	return err == nil && len(found.Webhooks) > 0 && bytes.HasPrefix(found.Webhooks[0].ClientConfig.CABundle, bytes.TrimSpace(secret.Data[resources.CACert]))
}
