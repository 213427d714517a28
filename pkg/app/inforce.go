// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/clusterpolicies"
	"github.com/trusted-resources/chains-extension/pkg/controllers/inforce"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// watchGate reports whether the gate and the guards are in force, while a namespace or a
// policy asks for them, until the context ends.
func watchGate(ctx context.Context, kube kubernetes.Interface, namespaces corelisters.NamespaceLister, policies *clusterpolicies.Followed, emitter *observe.Emitter) {
	observer := &gateObserver{kube: kube, namespaces: namespaces, policies: policies, emitter: emitter}
	go inforce.Watch(ctx, gateProbes(kube), observer)
}

func gateProbes(kube kubernetes.Interface) inforce.Pods {
	return kube.CoreV1().Pods(v1alpha1.GateProbeNamespace)
}

// gateObserver emits facts about the gate.
type gateObserver struct {
	kube       kubernetes.Interface
	namespaces corelisters.NamespaceLister
	policies   *clusterpolicies.Followed
	emitter    *observe.Emitter
	last       observe.GateObserved
}

var _ inforce.Observer = (*gateObserver)(nil)

// Wanted implements inforce.Observer: a namespace has the label, with any value, or there is
// a ClusterVerificationPolicy.
func (o *gateObserver) Wanted() bool {
	return o.policies.Any() || o.anyNamespace(func(ns *corev1.Namespace) bool { return ns.Labels[v1alpha1.VerifyLabel] != "" })
}

// Observed implements inforce.Observer.
func (o *gateObserver) Observed(ctx context.Context, s inforce.State) {
	fact := observe.GateObserved{
		Held: s.Held, Guarded: s.Guarded, Why: s.Why,
		Needed: o.anyNamespace(func(ns *corev1.Namespace) bool { return o.policies.ModeOf(ns.Labels) == v1alpha1.VerifyEnforce }),
	}
	same := fact == o.last
	o.last = fact
	if !same {
		fact.Changed, fact.ConfigMap = true, chainsConfigMap(ctx, o.kube.CoreV1())
	}
	o.emitter.Emit(ctx, fact)
}

// anyNamespace reports whether a namespace asks for the gate, besides the one for tries and
// those that are being deleted, which get no new Pods.
func (o *gateObserver) anyNamespace(asks func(*corev1.Namespace) bool) bool {
	found, err := o.namespaces.List(labels.Everything())
	return err != nil || slices.ContainsFunc(found, func(ns *corev1.Namespace) bool {
		return ns.Name != v1alpha1.GateProbeNamespace && ns.DeletionTimestamp == nil && asks(ns)
	})
}
