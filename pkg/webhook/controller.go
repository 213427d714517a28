// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"
	"sync/atomic"

	chainsconfig "github.com/tektoncd/chains/pkg/config"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection/clients/namespacedkube/informers/core/v1/secret"
	secretfactory "knative.dev/pkg/injection/clients/namespacedkube/informers/factory"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"
	"knative.dev/pkg/system"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// withCertificateOnly replaces knative's informers of the own namespace. Knative uses
// them for Secrets only, and would list all of them: also the signing key.
func withCertificateOnly(ctx context.Context) context.Context {
	return context.WithValue(ctx, secretfactory.Key{}, informersOf(ctx, certificateName, informers.WithNamespace(system.Namespace())))
}

// informersOf returns informers that see the objects of one name.
func informersOf(ctx context.Context, name string, options ...informers.SharedInformerOption) informers.SharedInformerFactory {
	byName := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	options = append(options, informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = byName }))
	return informers.NewSharedInformerFactoryWithOptions(kubeclient.Get(ctx), controller.GetResyncPeriod(ctx), options...)
}

// newController returns the controller of our MutatingWebhookConfiguration, which also
// answers the API server.
func newController(ctx context.Context, cmw configmap.Watcher, ready *readiness) (*controller.Impl, error) {
	emitter, err := observe.NewEmitter(noEvents{})
	if err != nil {
		return nil, err
	}
	var impl *controller.Impl
	look := func() { impl.EnqueueKey(registrationKey) }
	var usable atomic.Pointer[config.Config]
	settings := config.NewStore(
		func(c *config.Config) {
			usable.Store(c)
			emitter.Emit(ctx, observe.ConfigLoaded{SignerTypes: c.SignerTypes(), Namespaces: c.Namespaces})
			look()
		},
		func(cm *corev1.ConfigMap, err error) {
			emitter.Emit(ctx, observe.ConfigRefused{ConfigMap: cm, Err: err})
		},
	)
	own := informersOf(ctx, registrationName)
	registrations := own.Admissionregistration().V1().MutatingWebhookConfigurations()
	kube := kubeclient.Get(ctx)
	r := &registrar{
		mutator:          &mutator{config: usable.Load, rights: newRights(kube.AuthorizationV1().SubjectAccessReviews()), emitter: emitter},
		LeaderAwareFuncs: reconciler.LeaderAwareFuncs{PromoteFunc: enqueueRegistration},
		secret:           types.NamespacedName{Namespace: system.Namespace(), Name: certificateName},
		account:          "system:serviceaccount:" + system.Namespace() + ":" + controllerAccount,
		secrets:          secret.Get(ctx).Lister(),
		registrations:    registrations.Lister(),
		client:           kube.AdmissionregistrationV1(),
		clock:            clock.RealClock{},
	}
	emitter.Measure(r.measure)
	impl = controller.NewContext(ctx, r, controller.ControllerOptions{WorkQueueName: "registration", Logger: logging.FromContext(ctx)})
	for _, informer := range []cache.SharedIndexInformer{registrations.Informer(), secret.Get(ctx).Informer()} {
		if _, err := informer.AddEventHandler(controller.HandleAll(func(any) { look() })); err != nil {
			return nil, err
		}
	}
	if err := watchSettings(cmw, settings); err != nil {
		return nil, err
	}
	own.Start(ctx.Done()) // knative starts only its own informers
	ready.when(registrations.Informer().HasSynced, r.certified)
	return impl, nil
}

func enqueueRegistration(bucket reconciler.Bucket, enqueue func(reconciler.Bucket, types.NamespacedName)) error {
	enqueue(bucket, registrationKey)
	return nil
}

// watchSettings loads the configuration of the controller whenever it changes.
func watchSettings(cmw configmap.Watcher, settings *config.Store) error {
	defaulting, ok := cmw.(configmap.DefaultingWatcher)
	if !ok {
		return fmt.Errorf("ConfigMaps are watched with a %T, expected a watcher with defaults", cmw)
	}
	defaulting.WatchWithDefault(corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: system.Namespace(), Name: config.OwnConfigMap}}, settings.Update)
	cmw.Watch(chainsconfig.ChainsConfig, settings.Update)
	return nil
}

// noEvents posts no Event: the controller posts those about settings.
type noEvents struct{}

// Record implements the recorder of observe.
func (noEvents) Record(context.Context, *corev1.ObjectReference, observe.Event) {}
