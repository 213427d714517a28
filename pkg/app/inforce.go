// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/inforce"
	"github.com/trusted-resources/chains-extension/pkg/observe"
)

// watchGate reports whether the gate and the guards are in force, while a namespace asks
// for them, until the context ends.
func watchGate(ctx context.Context, kube kubernetes.Interface, namespaces corelisters.NamespaceLister, emitter *observe.Emitter) {
	go inforce.Watch(ctx, kube.CoreV1().Pods(v1alpha1.GateProbeNamespace), &gateObserver{kube: kube, namespaces: namespaces, emitter: emitter})
}

// gateObserver emits facts about the gate.
type gateObserver struct {
	kube       kubernetes.Interface
	namespaces corelisters.NamespaceLister
	emitter    *observe.Emitter
	last       observe.GateObserved
}

var _ inforce.Observer = (*gateObserver)(nil)

// Wanted implements inforce.Observer: a namespace has the label, with any value.
func (o *gateObserver) Wanted() bool {
	labelled, err := labels.NewRequirement(v1alpha1.VerifyLabel, selection.Exists, nil)
	return err != nil || o.anyNamespace(labels.NewSelector().Add(*labelled))
}

// Observed implements inforce.Observer.
func (o *gateObserver) Observed(ctx context.Context, s inforce.State) {
	enforced := labels.SelectorFromSet(labels.Set{v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	fact := observe.GateObserved{Held: s.Held, Guarded: s.Guarded, Why: s.Why, Needed: o.anyNamespace(enforced)}
	same := fact == o.last
	o.last = fact
	if !same {
		fact.Changed, fact.ConfigMap = true, chainsConfigMap(ctx, o.kube.CoreV1())
	}
	o.emitter.Emit(ctx, fact)
}

// anyNamespace reports whether a selector matches a namespace, besides the one for tries
// and those that are being deleted, which get no new Pods.
func (o *gateObserver) anyNamespace(selector labels.Selector) bool {
	found, err := o.namespaces.List(selector)
	return err != nil || slices.ContainsFunc(found, func(ns *corev1.Namespace) bool {
		return ns.Name != v1alpha1.GateProbeNamespace && ns.DeletionTimestamp == nil
	})
}
