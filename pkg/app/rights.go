// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"

	chainsconfig "github.com/tektoncd/chains/pkg/config"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedregistration "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/utils/clock"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rights"
	"github.com/trusted-resources/chains-extension/pkg/controllers/state"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// rightsObserver emits facts about missing rights. Their Events are on the ConfigMap
// chains-config: the controller has no right to read its Deployment.
type rightsObserver struct {
	configMaps typedcorev1.ConfigMapsGetter
	emitter    *observe.Emitter
	effect     string // of missing rights
}

var _ rights.Observer = rightsObserver{}

// Missing implements rights.Observer.
func (o rightsObserver) Missing(ctx context.Context, missing []string) {
	about := chainsConfigMap(ctx, o.configMaps)
	if len(missing) == 0 {
		o.emitter.Emit(ctx, observe.RightsGranted{ConfigMap: about})
		return
	}
	o.emitter.Emit(ctx, observe.RightsMissing{ConfigMap: about, Rights: missing, Effect: o.effect})
}

// Unknown implements rights.Observer.
func (o rightsObserver) Unknown(ctx context.Context, err error) {
	o.emitter.Emit(ctx, observe.RightsUnknown{Err: err})
}

// chainsConfigMap returns a reference to chains-config, without a UID if the ConfigMap
// cannot be read.
func chainsConfigMap(ctx context.Context, configMaps typedcorev1.ConfigMapsGetter) *corev1.ObjectReference {
	about := &corev1.ObjectReference{
		APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ConfigMap",
		Namespace: system.Namespace(), Name: chainsconfig.ChainsConfig,
	}
	if found, err := configMaps.ConfigMaps(about.Namespace).Get(ctx, about.Name, metav1.GetOptions{}); err == nil {
		about.UID, about.ResourceVersion = found.UID, found.ResourceVersion
	}
	return about
}

// watchRequester finds out whether requesters can be relied upon, until ctx ends.
func (o rightsObserver) watchRequester(ctx context.Context, kube kubernetes.Interface, s *state.State) {
	rights.Requester{
		Reviews:  kube.AuthorizationV1().SelfSubjectAccessReviews(),
		Policies: admissionPolicies{kube.AdmissionregistrationV1()},
		Wanted:   func() bool { return s.Config().Requester != config.RequesterOff },
		Found: func(ctx context.Context, unsafe error) {
			s.SetRequesterUnsafe(unsafe)
			if unsafe == nil {
				o.emitter.Emit(ctx, observe.RequesterSafe{})
				return
			}
			o.emitter.Emit(ctx, observe.RequesterUnsafe{ConfigMap: chainsConfigMap(ctx, o.configMaps), Err: unsafe})
		},
		Clock: clock.RealClock{},
	}.Run(ctx)
}

// admissionPolicies reads the policies from the API server.
type admissionPolicies struct {
	client typedregistration.AdmissionregistrationV1Interface
}

var _ rights.Policies = admissionPolicies{}

// Policy implements rights.Policies.
func (p admissionPolicies) Policy(ctx context.Context, name string) (*registrationv1.ValidatingAdmissionPolicy, error) {
	return p.client.ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{})
}

// Binding implements rights.Policies.
func (p admissionPolicies) Binding(ctx context.Context, name string) (*registrationv1.ValidatingAdmissionPolicyBinding, error) {
	return p.client.ValidatingAdmissionPolicyBindings().Get(ctx, name, metav1.GetOptions{})
}
