package resources

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	chainsconfig "github.com/tektoncd/chains/pkg/config"
	pipelineclient "github.com/tektoncd/pipeline/pkg/client/injection/client"
	policyinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1alpha1/verificationpolicy"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	namespaceinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/namespace"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/metrics"
	"github.com/trusted-resources/chains-extension/pkg/signing"
)

// allNamespaces stands for every namespace where one is asked for.
const allNamespaces = metav1.NamespaceAll

// environment is all that bears on a resource from outside of it. Whenever
// that changes, the resources that it bears on are looked at again.
type environment struct {
	config      *config.Store
	keys        *keyring.Keeper
	authorities signing.Authorities
	events      *eventRecorder
	metrics     *metrics.Recorder

	scope      []string
	namespaces corev1listers.NamespaceLister
	release    atomic.Pointer[error]

	mu        sync.RWMutex // guards listeners
	listeners []func(namespace string)
}

func newEnvironment(ctx context.Context, cmw configmap.Watcher, options Options) *environment {
	logger := logging.FromContext(ctx)
	recorder, err := metrics.New()
	if err != nil {
		logger.Fatalw("Cannot set up metrics", zap.Error(err))
	}
	policies := policyinformer.Get(ctx)
	namespaces := namespaceinformer.Get(ctx)
	env := &environment{
		authorities: policyAuthorities{
			cached: policies.Lister(), live: pipelineclient.Get(ctx).TektonV1alpha1(), kube: kubeclient.Get(ctx),
		},
		events:     newEventRecorder(ctx),
		metrics:    recorder,
		scope:      options.Namespaces,
		namespaces: namespaces.Lister(),
	}
	env.keys = keyring.NewKeeper(options.SecretsDir, func() { env.changed(allNamespaces) })
	env.config = config.NewStore(
		func(c *config.Config) { env.configured(ctx, c) },
		func(cm *corev1.ConfigMap, err error) { env.configRefused(ctx, cm, err) },
	)
	cmw.Watch(chainsconfig.ChainsConfig, env.config.Update)
	go env.keys.Run(ctx)

	env.handle(ctx, policies.Informer(), controller.HandleAll(env.policyChanged))
	env.handle(ctx, namespaces.Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc:    func(item any) { env.changed(item.(*corev1.Namespace).Name) },
		UpdateFunc: env.namespaceUpdated,
	})
	env.watchRelease(ctx, options.TektonNamespace)
	return env
}

// onChange registers what is called with the namespace (or allNamespaces)
// whose resources are to be looked at again.
func (env *environment) onChange(listener func(namespace string)) {
	env.mu.Lock()
	defer env.mu.Unlock()
	env.listeners = append(env.listeners, listener)
}

func (env *environment) changed(namespace string) {
	env.mu.RLock()
	defer env.mu.RUnlock()
	for _, listener := range env.listeners {
		listener(namespace)
	}
}

func (env *environment) configured(ctx context.Context, c *config.Config) {
	logging.FromContext(ctx).Infow("Configuration loaded", "signers", c.SignerTypes(), "namespaces", c.Namespaces)
	env.keys.Configure(ctx, keyring.Settings{SignerTypes: c.SignerTypes(), KMS: c.Chains.Signers.KMS})
	env.changed(allNamespaces)
}

func (env *environment) configRefused(ctx context.Context, cm *corev1.ConfigMap, err error) {
	logging.FromContext(ctx).Errorw("Configuration refused, the last good one stays in force",
		"namespace", cm.Namespace, "name", cm.Name, zap.Error(err))
	env.events.record(ctx, configMapReference(cm), configRefusedEvent(err))
	env.metrics.ConfigRefused(ctx)
}

func (env *environment) policyChanged(item any) {
	if policy, err := kmeta.DeletionHandlingAccessor(item); err == nil {
		env.changed(policy.GetNamespace())
	}
}

func (env *environment) namespaceUpdated(before, after any) {
	was, is := before.(*corev1.Namespace), after.(*corev1.Namespace)
	cfg := env.config.Load()
	if cfg.Selects(was.Labels) != cfg.Selects(is.Labels) {
		env.changed(is.Name)
	}
}

func (env *environment) namespaceLabels(namespace string) (map[string]string, bool) {
	ns, err := env.namespaces.Get(namespace)
	if err != nil {
		return nil, false // not in the cache yet: its arrival brings us back
	}
	return ns.Labels, ns.DeletionTimestamp == nil // what is in it goes with it
}

func (env *environment) inScope(item any) bool {
	obj, err := kmeta.DeletionHandlingAccessor(item)
	return err == nil && (len(env.scope) == 0 || slices.Contains(env.scope, obj.GetNamespace()))
}

func (env *environment) handle(ctx context.Context, informer cache.SharedIndexInformer, handler cache.ResourceEventHandler) {
	if _, err := informer.AddEventHandler(handler); err != nil {
		logging.FromContext(ctx).Fatalw("Cannot watch", zap.Error(err))
	}
}
