// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"

	chainsconfig "github.com/tektoncd/chains/pkg/config"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/controllers/rights"
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
