package environment

import (
	"context"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// CheckRelease says why the installed Tekton could not verify our signatures.
func (env *Environment) CheckRelease() error { return *env.release.Load() }

// watchRelease follows the ConfigMap that names Tekton's release. It is read
// once before anything is signed; when that is not possible, Tekton counts as
// current until it is.
func (env *Environment) watchRelease(ctx context.Context, namespace string) {
	env.releaseRead(ctx, nil)
	kube := kubeclient.Get(ctx)
	info, err := kube.CoreV1().ConfigMaps(namespace).Get(ctx, tekton.InfoConfigMap, metav1.GetOptions{})
	if err != nil {
		logging.FromContext(ctx).Warnw("Cannot read the release of Tekton Pipelines, it is taken for a current one",
			"namespace", namespace, "name", tekton.InfoConfigMap, zap.Error(err))
	} else {
		env.releaseRead(ctx, info.Data)
	}

	factory := informers.NewSharedInformerFactoryWithOptions(kube, 0,
		informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, tekton.InfoConfigMap).String()
		}))
	env.Handle(ctx, factory.Core().V1().ConfigMaps().Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc:    func(item any) { env.releaseRead(ctx, item.(*corev1.ConfigMap).Data) },
		UpdateFunc: func(_, item any) { env.releaseRead(ctx, item.(*corev1.ConfigMap).Data) },
	})
	factory.Start(ctx.Done())
}

func (env *Environment) releaseRead(ctx context.Context, info map[string]string) {
	err := tekton.CheckRelease(info)
	before := env.release.Swap(&err)
	if before != nil && (*before == nil) == (err == nil) {
		return
	}
	if err != nil {
		logging.FromContext(ctx).Errorw("Nothing is signed", zap.Error(err))
	}
	env.changed(AllNamespaces)
}
