// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"maps"

	chainsconfig "github.com/tektoncd/chains/pkg/config"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Handlers registers event handlers of informers.
type Handlers interface {
	Add(informer cache.SharedIndexInformer, handler cache.ResourceEventHandler) error
}

// WatchConfig loads the configuration from the ConfigMaps of the controller's namespace
// whenever one of them changes, and the keys whenever their files change, until ctx
// ends.
func (s *State) WatchConfig(ctx context.Context, cmw configmap.DefaultingWatcher, namespace string) {
	cmw.WatchWithDefault(corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: config.OwnConfigMap}}, s.config.Update)
	cmw.Watch(chainsconfig.ChainsConfig, s.config.Update)
	go s.keys.Run(ctx)
}

// WatchPolicies calls the listeners when a VerificationPolicy changes, and looks for its
// problems.
func (s *State) WatchPolicies(ctx context.Context, handlers Handlers, policies cache.SharedIndexInformer) error {
	return handlers.Add(policies, controller.HandleAll(func(item any) {
		name, err := cache.DeletionHandlingObjectToName(item)
		if err != nil {
			return
		}
		current, exists, err := policies.GetStore().GetByKey(name.String())
		if err != nil || !exists {
			current = nil
		}
		s.problems.changed(ctx, name, current)
		s.Changed(name.Namespace)
	}))
}

// WatchNamespaces calls the listeners when a namespace is added, or its labels change.
func (s *State) WatchNamespaces(handlers Handlers, namespaces cache.SharedIndexInformer) error {
	return handlers.Add(namespaces, cache.ResourceEventHandlerFuncs{
		AddFunc: func(item any) { s.Changed(item.(*corev1.Namespace).Name) },
		UpdateFunc: func(before, after any) {
			was, is := before.(*corev1.Namespace), after.(*corev1.Namespace)
			if !maps.Equal(was.Labels, is.Labels) { // they select a namespace for signing, and for a KeyRing
				s.Changed(is.Name)
			}
		},
	})
}

// WatchRelease follows the ConfigMap that names the release of Tekton Pipelines.
// The release is read once before WatchRelease returns, so that nothing is signed
// for a release that is too old. Nothing is signed while the ConfigMap cannot be read.
// Without a ConfigMap the release counts as current. The ConfigMap is in the first of
// the namespaces that has one now, or otherwise in the last.
func (s *State) WatchRelease(ctx context.Context, kube kubernetes.Interface, namespaces ...string) error {
	namespace := s.findRelease(ctx, kube, namespaces)
	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0,
		informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, tekton.InfoConfigMap).String()
		}))
	_, err := factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(item any) { s.releaseRead(ctx, item.(*corev1.ConfigMap).Data) },
		UpdateFunc: func(_, item any) { s.releaseRead(ctx, item.(*corev1.ConfigMap).Data) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	return nil
}

// findRelease reads the release, and returns the namespace that it was found in, or
// the last namespace.
func (s *State) findRelease(ctx context.Context, kube kubernetes.Interface, namespaces []string) (namespace string) {
	var errs []error
	for _, namespace = range namespaces {
		info, err := kube.CoreV1().ConfigMaps(namespace).Get(ctx, tekton.InfoConfigMap, metav1.GetOptions{})
		if err == nil {
			s.releaseRead(ctx, info.Data)
			return namespace
		}
		if !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("namespace %s: %w", namespace, err))
		}
	}
	if len(errs) == 0 {
		s.sources.Emitter.Emit(ctx, observe.ReleaseMissing{Namespaces: namespaces})
		return namespace
	}
	unread := tekton.Unread(errors.Join(errs...))
	s.release.Store(&unread)
	s.sources.Emitter.Emit(ctx, observe.ReleaseRefused{Err: unread.Check()})
	return namespace
}

// releaseRead calls the listeners if the release has become usable or unusable, or
// has another dialect.
func (s *State) releaseRead(ctx context.Context, info map[string]string) {
	release := tekton.ReleaseOf(info)
	before := s.release.Swap(&release)
	refused := release.Check()
	other := (before.Check() == nil) != (refused == nil)
	was, is := before.Dialect(), release.Dialect()
	if !other && was == is {
		return
	}
	if other && refused != nil {
		s.sources.Emitter.Emit(ctx, observe.ReleaseRefused{Err: refused})
	}
	if was != is && refused == nil {
		s.sources.Emitter.Emit(ctx, observe.ReleaseChanged{Release: release, Before: was, After: is})
	}
	s.Changed(AllNamespaces)
}
