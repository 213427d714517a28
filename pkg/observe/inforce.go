// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"go.uber.org/zap/zapcore"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// GateObserved says whether the API server holds and guards the Pods of TaskRuns in
// enforced namespaces.
type GateObserved struct {
	// ConfigMap is the object of the Event.
	ConfigMap     *corev1.ObjectReference
	Held, Guarded bool
	// Why is empty if both are true.
	Why string
	// Changed: without it, the fact only sets the metric.
	Changed bool
	// Needed: a namespace has the label of enforcement.
	Needed bool
}

func (f GateObserved) report() report {
	r := report{gauges: map[gauge]bool{gateHeld: f.Held, gateGuarded: f.Guarded}}
	if !f.Changed {
		return r
	}
	r.about = f.ConfigMap
	switch {
	case f.Held && f.Guarded:
		const message = "Gate and guards are in force: in enforced namespaces, no TaskRun starts before its resources are verified"
		r.event = Normal(v1alpha1.ReasonGateInForce, message)
		r.log = logLine{zapcore.InfoLevel, message, nil}
	case f.Needed:
		const message = "Gate or guards are not in force in enforced namespaces. Apply config/admission, or the webhook"
		r.event = Warning(v1alpha1.ReasonGateNotInForce, message+": "+f.Why)
		r.log = logLine{zapcore.ErrorLevel, message, []any{"why", f.Why}}
	default:
		r.log = logLine{zapcore.InfoLevel, "Gate or guards are not in force, and no namespace is enforced", []any{"why", f.Why}}
	}
	return r
}
