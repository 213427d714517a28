// SPDX-License-Identifier: Apache-2.0

// Package clusterpolicies puts ClusterVerificationPolicies into force: the leader writes
// them, with the keys that they name, into a ConfigMap, and every replica follows the
// ConfigMap (docs/design/0033).
package clusterpolicies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/clusterpolicy"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// ErrNotRead means that the ClusterVerificationPolicies in force are not known.
var ErrNotRead = errors.New("the ClusterVerificationPolicies in force were not read")

// Followed are the ClusterVerificationPolicies in force. They are safe for concurrent use.
type Followed struct {
	kube       kubernetes.Interface
	namespaces corev1listers.NamespaceLister
	ring       Ring

	view  atomic.Pointer[view]
	first sync.Once
	known chan struct{} // closed by the first read

	mu      sync.Mutex // guards changed
	changed []func()
}

// Ring returns the public keys in PEM that "keyRing: active" stands for in a namespace with
// these labels.
type Ring func(namespace map[string]string) ([]string, error)

// view is one state of the ConfigMap. It is never changed.
type view struct {
	cluster *policy.Cluster
	err     error // why there is no cluster
}

var _ policy.ClusterPolicies = (*Followed)(nil)

// NewFollowed returns policies that were not read yet.
func NewFollowed(kube kubernetes.Interface, namespaces corev1listers.NamespaceLister, ring Ring) *Followed {
	f := &Followed{kube: kube, namespaces: namespaces, ring: ring, known: make(chan struct{})}
	f.view.Store(&view{err: ErrNotRead})
	return f
}

// Start reads the ConfigMap, and follows it until the context ends. It needs the right to
// watch the ConfigMap.
func (f *Followed) Start(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(f.kube, 0,
		informers.WithNamespace(v1alpha1.PoliciesNamespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, v1alpha1.ClusterPoliciesConfigMap).String()
		}))
	informer := factory.Core().V1().ConfigMaps().Informer()
	read := func(item any) {
		if found, ok := item.(*corev1.ConfigMap); ok {
			f.read(ctx, found.Data)
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    read,
		UpdateFunc: func(_, item any) { read(item) },
		DeleteFunc: func(any) { f.read(ctx, nil) },
	}); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) && len(informer.GetStore().List()) == 0 {
			f.read(ctx, nil) // there is no ConfigMap
		}
	}()
	return f.Wait(ctx)
}

// Wait waits until the policies were read. Before, no run can be verified.
func (f *Followed) Wait(ctx context.Context) error {
	select {
	case <-f.known:
		return nil
	case <-ctx.Done():
		return ErrNotRead
	}
}

// OnChange registers a function that is called when other policies are in force.
func (f *Followed) OnChange(changed func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = append(f.changed, changed)
}

// read replaces the view. Data that cannot be read changes nothing: the last good policies
// stay in force.
func (f *Followed) read(ctx context.Context, data map[string]string) {
	defer f.first.Do(func() { close(f.known) })
	next, err := viewOf(data)
	if err != nil {
		logging.FromContext(ctx).Errorw("ConfigMap refused, the last good ClusterVerificationPolicies stay in force",
			"namespace", v1alpha1.PoliciesNamespace, "name", v1alpha1.ClusterPoliciesConfigMap, zap.Error(err))
		if f.view.Load().err == nil {
			return
		}
		next = &view{err: fmt.Errorf("%w: ConfigMap %s/%s: %w; delete the ConfigMap, so that the controller writes it again",
			ErrNotRead, v1alpha1.PoliciesNamespace, v1alpha1.ClusterPoliciesConfigMap, err)}
	}
	f.view.Store(next)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, changed := range f.changed {
		changed()
	}
}

func viewOf(data map[string]string) (*view, error) {
	policies, err := clusterpolicy.Decode(data)
	if err != nil {
		return nil, err
	}
	cluster, err := policy.NewCluster(policies)
	if err != nil {
		return nil, err
	}
	return &view{cluster: cluster}, nil
}

// Ranks implements policy.ClusterPolicies.
func (f *Followed) Ranks(namespace string) (policy.Ranks, error) {
	now := f.view.Load()
	if now.err != nil || now.cluster.Len() == 0 {
		return policy.Ranks{}, now.err
	}
	ns, err := f.namespaces.Get(namespace)
	if err != nil {
		return policy.Ranks{}, fmt.Errorf("which ClusterVerificationPolicies select namespace %s is not known: %w", namespace, err)
	}
	return now.cluster.Ranks(namespace, ns.Labels, func() ([]string, error) { return f.ring(ns.Labels) })
}

// ModeOf returns what happens to the runs of a namespace with these labels: VerifyEnforce,
// VerifyWarn, or nothing (empty). Both the label of the namespace and
// ClusterVerificationPolicies decide.
func (f *Followed) ModeOf(namespace map[string]string) string {
	return modeOf(f.view.Load(), namespace)
}

func modeOf(v *view, namespace map[string]string) string {
	label := namespace[v1alpha1.VerifyLabel]
	if label == v1alpha1.VerifyEnforce || v.err != nil {
		return label
	}
	switch v.cluster.ModeOf(namespace) {
	case policy.Enforce:
		return v1alpha1.VerifyEnforce
	case policy.Warn:
		return v1alpha1.VerifyWarn
	case policy.Skip: // holds nothing
	}
	return label
}

// ModeNow is ModeOf with the labels and the policies that the API server has now. A caller
// needs it before it lets something pass because a cache, which can be old, says that the
// namespace is not enforced.
func (f *Followed) ModeNow(ctx context.Context, namespace string) (string, error) {
	ns, err := f.namespaceNow(ctx, namespace)
	if err != nil {
		return "", err
	}
	if ns == nil { // nothing runs in a namespace that is gone
		return v1alpha1.VerifyEnforce, nil
	}
	now, err := f.now(ctx)
	if err != nil {
		return "", err
	}
	return modeOf(now, ns.Labels), nil
}

// namespaceNow returns a namespace as the API server has it now, or nil if there is none. It
// needs the right to list namespaces, and no other one.
func (f *Followed) namespaceNow(ctx context.Context, name string) (*corev1.Namespace, error) {
	found, err := f.kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String(),
	})
	if err != nil || len(found.Items) == 0 {
		return nil, err
	}
	return &found.Items[0], nil
}

// now returns what the API server has now.
func (f *Followed) now(ctx context.Context) (*view, error) {
	configMap, err := f.kube.CoreV1().ConfigMaps(v1alpha1.PoliciesNamespace).Get(ctx, v1alpha1.ClusterPoliciesConfigMap, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return viewOf(nil)
	}
	if err != nil {
		return nil, err
	}
	return viewOf(configMap.Data)
}

// WithFixedKeys returns the policies of policy.Cluster.WithFixedKeys. live asks for those that
// the API server has now.
func (f *Followed) WithFixedKeys(ctx context.Context, live bool) ([]*tekton.VerificationPolicy, error) {
	view := f.view.Load()
	if live {
		var err error
		if view, err = f.now(ctx); err != nil {
			return nil, err
		}
	}
	if view.err != nil {
		return nil, view.err
	}
	return view.cluster.WithFixedKeys(), nil
}

// Materialized returns what is to be materialized in a namespace, as
// policy.Cluster.Materialized describes it.
func (f *Followed) Materialized(ns *corev1.Namespace, own []*tekton.VerificationPolicy) ([]policy.Materialized, error) {
	return f.materialized(f.view.Load(), ns, own)
}

// MaterializedNow is Materialized with the labels and the policies that the API server has now.
func (f *Followed) MaterializedNow(ctx context.Context, namespace string, own []*tekton.VerificationPolicy) ([]policy.Materialized, error) {
	ns, err := f.namespaceNow(ctx, namespace)
	if err != nil || ns == nil {
		return nil, err
	}
	now, err := f.now(ctx)
	if err != nil {
		return nil, err
	}
	return f.materialized(now, ns, own)
}

func (f *Followed) materialized(v *view, ns *corev1.Namespace, own []*tekton.VerificationPolicy) ([]policy.Materialized, error) {
	if v.err != nil {
		return nil, v.err
	}
	return v.cluster.Materialized(ns.Name, ns.Labels, own, func() ([]string, error) { return f.ring(ns.Labels) })
}

// Any reports whether there is a policy.
func (f *Followed) Any() bool {
	now := f.view.Load()
	return now.err != nil || now.cluster.Len() > 0
}
