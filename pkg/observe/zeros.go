// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	corev1 "k8s.io/api/core/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// CountFromZero creates the series of the controller whose labels are known beforehand, with the
// value 0. The function increase() of Prometheus does not see the first event of a
// series that begins with 1.
func (e *Emitter) CountFromZero(ctx context.Context) {
	for _, c := range known() {
		e.metrics.counters[c.counter].Add(ctx, 0, metric.WithAttributes(c.attributes...))
	}
}

func known() []counted {
	all := make([]counted, 0, 128)
	all = append(all, counted{configErrors, nil})
	for _, kind := range resource.Kinds {
		for _, reason := range []decision.Reason{decision.Unsigned, decision.KeyRotated, decision.TektonChanged, decision.ContentChanged} {
			all = append(all, counted{signatures, kindAndReason(string(kind), string(reason))})
		}
		for _, reason := range signingFailureReasons {
			all = append(all, counted{signingFailures, kindAndReason(string(kind), reason)})
		}
		all = append(all, counted{earlierStates, ofKind(string(kind))})
		for _, uploaded := range []bool{true, false} {
			all = append(all, counted{stored, append(ofKind(string(kind)), attribute.Bool("uploaded", uploaded))})
		}
	}
	for _, kind := range []string{"TaskRun", "PipelineRun"} {
		all = append(all, counted{verificationDifferences, ofKind(kind)})
		for _, verdict := range []TektonVerdict{TektonPassed, TektonWarned, TektonRefused} {
			all = append(all, TektonJudged{kind, verdict}.report().count)
		}
		for _, reason := range []string{v1alpha1.ReasonRunNotSigned, v1alpha1.ReasonPanicked} {
			all = append(all, counted{runFailures, kindAndReason(kind, reason)})
		}
	}
	for _, name := range []string{"released", "refused", "waiting", "opened", "would-release", "would-refuse", "panicked"} {
		all = append(all, gateDecision(name))
	}
	for _, cache := range []Cache{Verdicts, RunKeys, SigningKeys} {
		for _, hit := range []bool{true, false} {
			all = append(all, CacheAsked{cache, hit}.report().count)
		}
	}
	for _, eventType := range []string{corev1.EventTypeNormal, corev1.EventTypeWarning} {
		all = append(all, counted{eventsDropped, []attribute.KeyValue{attribute.String("type", eventType)}})
	}
	return append(all, knownWrites()...)
}

// knownWrites are those of Reports and of the audit log.
func knownWrites() (all []counted) {
	for _, outcome := range []string{"written", "failed", "dropped"} {
		all = append(all, reportWrite(outcome))
		for _, sink := range []string{"stdout", "file", "webhook"} {
			all = append(all, auditRecordsOf(sink, outcome))
		}
	}
	return all
}

var signingFailureReasons = []string{
	v1alpha1.ReasonNoKey, v1alpha1.ReasonTektonTooOld, v1alpha1.ReasonTektonUnknown, v1alpha1.ReasonUndecided, v1alpha1.ReasonOtherTekton,
	v1alpha1.ReasonKeyRevoked, v1alpha1.ReasonNotAuthorized, v1alpha1.ReasonRequesterUnsafe, v1alpha1.ReasonSignerFailed,
	v1alpha1.ReasonDisputed, v1alpha1.ReasonRefused, v1alpha1.ReasonNotStored, v1alpha1.ReasonPanicked,
	v1alpha1.ReasonAuditFailed,
}

func ofKind(kind string) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("kind", kind)}
}
