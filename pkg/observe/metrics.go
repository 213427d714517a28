// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"errors"
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
	tektonVerdicts          counter = "trustedresources_tekton_verdicts"
	gateDecisions           counter = "trustedresources_gate_decisions"
	requesters              counter = "trustedresources_requesters"
	cacheRequests           counter = "trustedresources_cache_requests"
	eventsDropped           counter = "trustedresources_events_dropped"
	auditRecords            counter = "trustedresources_audit_records"
	reportWrites            counter = "trustedresources_report_writes"
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
	tektonVerdicts:          "Runs that ended about whose resources Tekton itself has a verdict, by kind and verdict.",
	gateDecisions:           "Decisions about held Pods of TaskRuns, by decision. A Pod that waits is counted each time that it is looked at.",
	requesters:              "Writes of Tasks, Pipelines and StepActions that the webhook answered, by kind and effect on the requester.",
	auditRecords:            "Records of the audit log, by sink and outcome: written, dropped (the sink did not keep up) or failed.",
	reportWrites:            "Writes of Reports, by outcome: written, failed (tried again) or dropped (a verdict, because too many waited).",
	cacheRequests:           "Look-ups in caches, by cache and outcome.",
	eventsDropped:           "Events that were dropped because too many waited to be posted, by type.",
}

// gauge is the name of a metric that is 1 or 0.
type gauge string

const (
	gateHeld    gauge = "trustedresources_gate_held"
	gateGuarded gauge = "trustedresources_gate_guarded"
	configValid gauge = "trustedresources_config_valid"
)

var gaugeDescriptions = map[gauge]string{
	gateHeld:    "1 if the API server adds the scheduling gate to Pods of TaskRuns in enforced namespaces, 0 if not or if that is not known.",
	gateGuarded: "1 if the API server guards the Pods of TaskRuns in enforced namespaces, 0 if not or if that is not known.",
	configValid: "1 if the configuration in force is that of the ConfigMaps, 0 if a ConfigMap was refused.",
}

// histogram is the name of a distribution of durations, without the suffix _seconds that
// Prometheus adds.
type histogram string

const (
	signingDuration      histogram = "trustedresources_signing_duration"
	signingLatency       histogram = "trustedresources_signing_latency"
	verificationDuration histogram = "trustedresources_verification_duration"
	gateWait             histogram = "trustedresources_gate_wait"
	kmsDuration          histogram = "trustedresources_kms_request_duration"
	registryDuration     histogram = "trustedresources_registry_request_duration"
)

// distribution describes a histogram.
type distribution struct {
	description string
	buckets     []float64 // upper bounds in seconds
}

var distributions = map[histogram]distribution{
	signingDuration:      {"Time that a key took for one signature, by kind.", fromMicroseconds},
	signingLatency:       {"Time from the arrival of a changed resource to the answer of the API server that it has the signature, by kind.", fromMilliseconds},
	verificationDuration: {"Time that the policies of a namespace took for a verdict on one signature, by result and whether the verdict was cached.", fromMicroseconds},
	gateWait:             {"Time from the creation of a held Pod to the decision about it, by decision.", fromMilliseconds},
	kmsDuration:          {"Time of requests to KMS, by provider, operation and outcome.", fromMilliseconds},
	registryDuration:     {"Time of requests to registries until the answer begins, by operation and class of the HTTP status.", fromMilliseconds},
}

var (
	// fromMicroseconds are the buckets of work without a remote system.
	fromMicroseconds = []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10}
	// fromMilliseconds are the buckets of work that waits for queues and remote systems.
	fromMilliseconds = []float64{1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10, 30, 60, 300}
)

type metrics struct {
	counters   map[counter]metric.Int64Counter
	gauges     map[gauge]metric.Int64Gauge
	histograms map[histogram]metric.Float64Histogram
	states     map[state]metric.Float64ObservableGauge
	series     seenSeries
	meter      metric.Meter
}

// newMetrics registers the metrics with the global meter provider, which knative
// configures from config-observability.
func newMetrics() (*metrics, error) {
	meter := otel.GetMeterProvider().Meter(scope)
	m := &metrics{meter: meter}
	var errs [4]error
	m.counters, errs[0] = instruments(descriptions, func(name, description string) (metric.Int64Counter, error) {
		return meter.Int64Counter(name, metric.WithDescription(description))
	})
	m.gauges, errs[1] = instruments(gaugeDescriptions, func(name, description string) (metric.Int64Gauge, error) {
		return meter.Int64Gauge(name, metric.WithDescription(description))
	})
	m.histograms, errs[2] = instruments(distributions, func(name string, d distribution) (metric.Float64Histogram, error) {
		return meter.Float64Histogram(name, metric.WithDescription(d.description), metric.WithUnit(seconds), metric.WithExplicitBucketBoundaries(d.buckets...))
	})
	m.states, errs[3] = instruments(stateDescriptions, func(name string, d stateDescription) (metric.Float64ObservableGauge, error) {
		return meter.Float64ObservableGauge(name, metric.WithDescription(d.description), metric.WithUnit(d.unit))
	})
	return m, errors.Join(errs[:]...)
}

// seconds is a unit, of which Prometheus makes the suffix _seconds.
const seconds = "s"

// instruments makes an instrument of each description.
func instruments[Name ~string, Description, Instrument any](
	of map[Name]Description, instrument func(name string, d Description) (Instrument, error),
) (map[Name]Instrument, error) {
	made := make(map[Name]Instrument, len(of))
	for name, description := range of {
		one, err := instrument(string(name), description)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", name, err)
		}
		made[name] = one
	}
	return made, nil
}

func kindAndReason(kind, reason string) []attribute.KeyValue {
	return []attribute.KeyValue{attribute.String("kind", kind), attribute.String("reason", reason)}
}
