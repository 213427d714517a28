// Package environment is what the reconcilers share: configuration, keys,
// Events and metrics, and what else bears on objects from outside of them.
package environment

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	chainsconfig "github.com/tektoncd/chains/pkg/config"
	policyinformer "github.com/tektoncd/pipeline/pkg/client/injection/informers/pipeline/v1alpha1/verificationpolicy"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	namespaceinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/namespace"
	"knative.dev/pkg/configmap"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/kmeta"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// ReasonConfigRefused is the reason of the Event on a ConfigMap that cannot be
// used.
const ReasonConfigRefused = "ConfigRefused"

// AllNamespaces stands for every namespace where one is asked for.
const AllNamespaces = metav1.NamespaceAll

// Options are what the command line says.
type Options struct {
	// SecretsDir is where the signing secret is mounted.
	SecretsDir string
	// TektonNamespace is where Tekton Pipelines is installed.
	TektonNamespace string
	// Namespaces restricts the controller to some; empty means all.
	Namespaces []string
}

// Environment is all that bears on a resource from outside of it. Whenever
// that changes, the resources that it bears on are looked at again.
type Environment struct {
	Config  *config.Store
	Keys    *keys.Loader
	Events  *observe.Events
	Metrics *observe.Metrics

	scope      []string
	stores     *stores
	namespaces corev1listers.NamespaceLister
	release    atomic.Pointer[error]

	mu        sync.RWMutex // guards all below
	listeners []func(namespace string)
	synced    []cache.InformerSynced
}

func newEnvironment(ctx context.Context, cmw configmap.Watcher, options Options) *Environment {
	logger := logging.FromContext(ctx)
	recorder, err := observe.NewMetrics()
	if err != nil {
		logger.Fatalw("Cannot set up metrics", zap.Error(err))
	}
	policies := policyinformer.Get(ctx)
	namespaces := namespaceinformer.Get(ctx)
	env := &Environment{
		Events:     observe.NewEvents(ctx),
		Metrics:    recorder,
		scope:      options.Namespaces,
		stores:     newStores(ctx),
		namespaces: namespaces.Lister(),
	}
	env.Keys = keys.NewLoader(options.SecretsDir, func() { env.changed(AllNamespaces) })
	env.Config = config.NewStore(
		func(c *config.Config) { env.configured(ctx, c) },
		func(cm *corev1.ConfigMap, err error) { env.configRefused(ctx, cm, err) },
	)
	cmw.Watch(chainsconfig.ChainsConfig, env.Config.Update)
	go env.Keys.Run(ctx)

	env.Handle(ctx, policies.Informer(), controller.HandleAll(env.policyChanged))
	env.Handle(ctx, namespaces.Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc:    func(item any) { env.changed(item.(*corev1.Namespace).Name) },
		UpdateFunc: env.namespaceUpdated,
	})
	env.watchRelease(ctx, options.TektonNamespace)
	slimInformers(ctx)
	return env
}

// OnChange registers what is called with the namespace (or AllNamespaces)
// whose resources are to be looked at again.
func (env *Environment) OnChange(listener func(namespace string)) {
	env.mu.Lock()
	defer env.mu.Unlock()
	env.listeners = append(env.listeners, listener)
}

func (env *Environment) changed(namespace string) {
	env.mu.RLock()
	defer env.mu.RUnlock()
	for _, listener := range env.listeners {
		listener(namespace)
	}
}

func (env *Environment) configured(ctx context.Context, c *config.Config) {
	logging.FromContext(ctx).Infow("Configuration loaded", "signers", c.SignerTypes(), "namespaces", c.Namespaces)
	env.Keys.Configure(ctx, keys.Settings{SignerTypes: c.SignerTypes(), KMS: c.Chains.Signers.KMS})
	env.changed(AllNamespaces)
}

func (env *Environment) configRefused(ctx context.Context, cm *corev1.ConfigMap, err error) {
	logging.FromContext(ctx).Errorw("Configuration refused, the last good one stays in force",
		"namespace", cm.Namespace, "name", cm.Name, zap.Error(err))
	env.Events.Record(ctx, configMapReference(cm), observe.Warning(ReasonConfigRefused, fmt.Sprintf("The last good configuration stays in force: %v", err)))
	env.Metrics.ConfigRefused(ctx)
}

func (env *Environment) policyChanged(item any) {
	if policy, err := kmeta.DeletionHandlingAccessor(item); err == nil {
		env.changed(policy.GetNamespace())
	}
}

func (env *Environment) namespaceUpdated(before, after any) {
	was, is := before.(*corev1.Namespace), after.(*corev1.Namespace)
	cfg := env.Config.Load()
	if cfg.Selects(was.Labels) != cfg.Selects(is.Labels) {
		env.changed(is.Name)
	}
}

// NamespaceLabels are the labels of a namespace; false when there is none to
// sign in.
func (env *Environment) NamespaceLabels(namespace string) (map[string]string, bool) {
	ns, err := env.namespaces.Get(namespace)
	if err != nil {
		return nil, false // not in the cache yet: its arrival brings us back
	}
	return ns.Labels, ns.DeletionTimestamp == nil // what is in it goes with it
}

// InScope says whether the command line lets us touch an object of a cache.
func (env *Environment) InScope(item any) bool {
	obj, err := kmeta.DeletionHandlingAccessor(item)
	return err == nil && (len(env.scope) == 0 || slices.Contains(env.scope, obj.GetNamespace()))
}

// Handle registers a handler, or ends the process.
func (env *Environment) Handle(ctx context.Context, informer cache.SharedIndexInformer, handler cache.ResourceEventHandler) {
	registered, err := informer.AddEventHandler(handler)
	if err != nil {
		logging.FromContext(ctx).Fatalw("Cannot watch", zap.Error(err))
		return
	}
	env.mu.Lock()
	defer env.mu.Unlock()
	env.synced = append(env.synced, registered.HasSynced)
}

func configMapReference(cm *corev1.ConfigMap) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: corev1.SchemeGroupVersion.String(), Kind: "ConfigMap",
		Namespace: cm.Namespace, Name: cm.Name, UID: cm.UID, ResourceVersion: cm.ResourceVersion,
	}
}
