// SPDX-License-Identifier: Apache-2.0

package gating

import (
	"time"

	"github.com/jellydator/ttlcache/v3"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/attestation"
)

// Bounds of what is remembered about decisions. A decision is needed until the
// attestation of the run is made.
const (
	maxDecisions     = 100_000
	decisionLifetime = 48 * time.Hour
)

// Decisions are the decisions that this process made.
type Decisions struct {
	// enforced reports whether a namespace is enforced, or may be.
	enforced func(namespace string) bool
	clock    clock.PassiveClock
	// pods are the Pods that were decided about: the caches show the state before a
	// decision until the watch delivers its effect.
	pods *ttlcache.Cache[types.UID, struct{}]
	// runs has the decision about the last Pod of a TaskRun, by UID of the TaskRun.
	runs *ttlcache.Cache[types.UID, decided]
}

// decided is the decision about one Pod.
type decided struct {
	pod string // name
	attestation.Gate
}

// NewDecisions returns an empty memory.
func NewDecisions(namespaces corev1listers.NamespaceLister, modes Modes, clock clock.PassiveClock) *Decisions {
	return &Decisions{
		clock: clock,
		enforced: func(namespace string) bool {
			ns, err := namespaces.Get(namespace)
			return err != nil || modes.ModeOf(ns.Labels) == v1alpha1.VerifyEnforce
		},
		pods: ttlcache.New(ttlcache.WithTTL[types.UID, struct{}](decisionLifetime), ttlcache.WithCapacity[types.UID, struct{}](maxDecisions)),
		runs: ttlcache.New(ttlcache.WithTTL[types.UID, decided](decisionLifetime), ttlcache.WithCapacity[types.UID, decided](maxDecisions)),
	}
}

// has reports whether a Pod was decided about.
func (d *Decisions) has(pod types.UID) bool { return d.pods.Has(pod) }

// add remembers the decision about a Pod of a TaskRun.
func (d *Decisions) add(tr *v1.TaskRun, pod types.UID, name string, made attestation.Gate) {
	made.At = d.clock.Now()
	d.pods.Set(pod, struct{}{}, ttlcache.DefaultTTL)
	d.runs.Set(tr.UID, decided{name, made}, ttlcache.DefaultTTL)
}

// knows reports whether the Pod that a TaskRun has recorded was decided about.
func (d *Decisions) knows(tr *v1.TaskRun) bool {
	found := d.runs.Get(tr.UID)
	return found != nil && found.Value().pod == tr.Status.PodName
}

// Of returns the decision about the Pod that a TaskRun has recorded. A TaskRun without a
// Pod has nothing to hold.
func (d *Decisions) Of(tr *v1.TaskRun) attestation.Gate {
	if found := d.runs.Get(tr.UID); found != nil && found.Value().pod == tr.Status.PodName {
		return found.Value().Gate
	}
	if tr.Status.PodName != "" && d.enforced(tr.Namespace) {
		return attestation.Gate{Decision: attestation.GateUnknown}
	}
	return attestation.Gate{Decision: attestation.GateNotHeld}
}
