// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// counter is the name of a metric, without the suffix _total that Prometheus
// adds.
type counter string

const (
	signatures              counter = "trustedresources_signatures"
	signingFailures         counter = "trustedresources_signing_failures"
	configErrors            counter = "trustedresources_config_errors"
	runFailures             counter = "trustedresources_run_failures"
	verifications           counter = "trustedresources_verifications"
	verificationFailures    counter = "trustedresources_verification_failures"
	policyViolations        counter = "trustedresources_policy_violations"
	verificationDifferences counter = "trustedresources_verification_differences"
	stored                  counter = "trustedresources_stored"
	earlierStates           counter = "trustedresources_earlier_states_restored"
	gateDecisions           counter = "trustedresources_gate_decisions"
	requesters              counter = "trustedresources_requesters"
	eventsDropped           counter = "trustedresources_events_dropped"
	auditRecords            counter = "trustedresources_audit_records"
)

// descriptions are the help texts of all metrics.
var descriptions = map[counter]string{
	signatures:              "Signatures written, by kind and reason.",
	signingFailures:         "Resources that could not be signed or stored, by kind and reason.",
	runFailures:             "Runs that could not be signed, or not be verified, by kind and reason.",
	configErrors:            "ConfigMaps that were refused.",
	verifications:           "Resources behind runs that were verified for an attestation, by kind, result and reason.",
	verificationFailures:    "Resources behind runs that failed the verification for an attestation, by namespace of the run, kind, reason and mode.",
	policyViolations:        "Resources behind runs that failed a policy, by namespace of the run, policy, its scope and mode.",
	verificationDifferences: "Runs whose verification gave another result than Tekton's, by kind.",
	stored:                  "Signed resources found in or written to the registry, by kind and whether the resource was uploaded.",
	earlierStates:           "Resources that changed to a state with a signature of this installation that was not made for this change, by kind.",
	gateDecisions:           "Decisions about held Pods of TaskRuns, by decision. A Pod that waits is counted each time that it is looked at.",
	requesters:              "Writes of Tasks, Pipelines and StepActions that the webhook answered, by kind and effect on the requester.",
	auditRecords:            "Records of the audit log, by sink and outcome: written, dropped (the sink did not keep up) or failed.",
	eventsDropped:           "Events that were dropped because too many waited to be posted, by type.",
}

// gauge is the name of a metric that is 1 or 0.
type gauge string

const (
	gateHeld    gauge = "trustedresources_gate_held"
	gateGuarded gauge = "trustedresources_gate_guarded"
)

var gaugeDescriptions = map[gauge]string{
	gateHeld:    "1 if the API server adds the scheduling gate to Pods of TaskRuns in enforced namespaces, 0 if not or if that is not known.",
	gateGuarded: "1 if the API server guards the Pods of TaskRuns in enforced namespaces, 0 if not or if that is not known.",
}

type metrics struct {
	counters map[counter]metric.Int64Counter
	gauges   map[gauge]metric.Int64Gauge
	series   series
}

// newMetrics registers the metrics with the global meter provider, which knative
// configures from config-observability.
func newMetrics() (*metrics, error) {
	meter := otel.GetMeterProvider().Meter("github.com/trusted-resources/chains-extension")
	m := &metrics{counters: map[counter]metric.Int64Counter{}, gauges: map[gauge]metric.Int64Gauge{}}
	for name, description := range descriptions {
		c, err := meter.Int64Counter(string(name), metric.WithDescription(description))
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		m.counters[name] = c
	}
	for name, description := range gaugeDescriptions {
		g, err := meter.Int64Gauge(string(name), metric.WithDescription(description))
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		m.gauges[name] = g
	}
	return m, nil
}

func kindAndReason(kind, reason string) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("kind", kind), attribute.String("reason", reason)}
}
