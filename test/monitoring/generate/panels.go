// SPDX-License-Identifier: Apache-2.0

package main

// dashboards are all dashboards. The uid is also the name of the file.
var dashboards = []dashboard{trustOverview, signingAndVerification, keysAndDependencies}

// Limits of panels.
var (
	anyIsBad     = []limit{{from: 1, color: "red"}}
	zeroIsBad    = []limit{{from: 0, color: "red"}, {from: 1, color: "green"}}
	signedShare  = []limit{{from: 0, color: "red"}, {from: 0.95, color: "orange"}, {from: 1, color: "green"}}
	daysOfCertif = []limit{{from: 0, color: "red"}, {from: 7, color: "orange"}, {from: 30, color: "green"}}
)

var trustOverview = dashboard{
	uid:         "trusted-resources-overview",
	title:       "Trusted Resources: trust overview",
	description: "Which Tasks, Pipelines and StepActions are signed, which runs fail their policies, and what has to be done before a namespace is enforced.",
	rows: []row{
		{"Now", []panel{
			{stat, "Signed", "Share of the resources with a valid signature, of this installation or of another signer.", "percentunit", 4, []query{
				{`sum(trustedresources_resources{state=~"signed|foreign"}) / sum(trustedresources_resources)`, ""},
			}, signedShare},
			{stat, "Unsigned", "Resources without a signature, or with one that does not verify.", "short", 4, []query{
				{`sum(trustedresources_resources{state=~"unsigned|invalid"}) or vector(0)`, ""},
			}, anyIsBad},
			{stat, "Inventory complete", "1 if the leader has looked at every resource since it started. Before, the numbers of resources are too small.", "short", 4, []query{
				{`max(trustedresources_inventory_complete)`, ""},
			}, zeroIsBad},
			{stat, "Replicas that lead", "0 means that nothing is signed.", "short", 4, []query{
				{`sum(trustedresources_leader)`, ""},
			}, zeroIsBad},
			{stat, "Gate and guards", "1 if the API server holds and guards the Pods of TaskRuns in enforced namespaces. No value until a namespace has the label verify.", "short", 4, []query{
				{`min(trustedresources_gate_held)`, "held"},
				{`min(trustedresources_gate_guarded)`, "guarded"},
			}, zeroIsBad},
			{stat, "Configuration valid", "0 means that a replica refuses the settings, and the last good ones are in force.", "short", 4, []query{
				{`min(trustedresources_config_valid)`, ""},
			}, zeroIsBad},
		}},
		{"Alerts", []panel{
			{table, "Firing alerts", "Each has a section in the runbook.", "", 24, []query{
				{`ALERTS{alertname=~"TrustedResources.+", alertstate="firing"}`, ""},
			}, nil},
		}},
		{"Runs", []panel{
			{graph, "Tekton's verdicts", "Runs per second, by what Tekton decided about the resources behind them.", "ops", 8, []query{
				{`sum by (verdict) (rate(trustedresources_tekton_verdicts_total[$__rate_interval]))`, "{{verdict}}"},
			}, nil},
			{graph, "Refused runs", "By Tekton, and by the gate.", "short", 8, []query{
				{`sum by (kind) (increase(trustedresources_tekton_verdicts_total{verdict="refused"}[$__rate_interval]))`, "Tekton, {{kind}}"},
				{`sum(increase(trustedresources_gate_decisions_total{decision="refused"}[$__rate_interval]))`, "gate"},
			}, nil},
			{graph, "Violations by policy", "Resources behind runs that fail a policy, in the last 10 minutes.", "short", 8, []query{
				{`sum by (resource_namespace, policy, policy_scope, mode) (increase(trustedresources_policy_violations_total[10m]))`, "{{resource_namespace}}/{{policy}} ({{policy_scope}}, {{mode}})"},
			}, nil},
			{graph, "Failed verifications", "In the last 10 minutes, by namespace of the run.", "short", 8, []query{
				{`trustedresources:verification_failures:increase10m`, "{{resource_namespace}} {{kind}} {{reason}} ({{mode}})"},
			}, nil},
			{graph, "Differences from Tekton", "Each one has to be explained.", "short", 8, []query{
				{`sum by (kind) (increase(trustedresources_verification_differences_total[$__rate_interval]))`, "{{kind}}"},
			}, nil},
			{graph, "Earlier states restored", "Resources that were put back with their old signature.", "short", 8, []query{
				{`sum by (kind) (increase(trustedresources_earlier_states_restored_total[$__rate_interval]))`, "{{kind}}"},
			}, nil},
		}},
		{"Readiness to enforce", []panel{
			{bar, "Signed, by namespace", "A namespace is ready when all its resources are signed, and nothing failed in mode warn.", "percentunit", 12, []query{
				{`(sum by (resource_namespace) (trustedresources_resources{state=~"signed|foreign"}) or 0 * sum by (resource_namespace) (trustedresources_resources)) / sum by (resource_namespace) (trustedresources_resources)`, "{{resource_namespace}}"},
			}, signedShare},
			{table, "Unsigned, by namespace and kind", "What an author has to apply again, or a signer has to be set for.", "short", 12, []query{
				{`sum by (resource_namespace, kind, state, enforced) (trustedresources_resources{state!~"signed|foreign"}) > 0`, ""},
			}, nil},
			{table, "Would be refused", "Failures in mode warn in the time range of the dashboard.", "short", 12, []query{
				{`sum by (resource_namespace, kind, reason) (increase(trustedresources_verification_failures_total{mode="warn"}[$__range]))`, ""},
			}, nil},
			{table, "Policies that cannot be evaluated", "Every resource that such a policy matches fails.", "short", 12, []query{
				{`max by (resource_namespace, policy, problem) (trustedresources_policy_problems)`, ""},
			}, nil},
		}},
	},
}

var signingAndVerification = dashboard{
	uid:         "trusted-resources-signing",
	title:       "Trusted Resources: signing and verification",
	description: "How fast resources are signed and verified, and why some are not.",
	rows: []row{
		{"Signing", []panel{
			{graph, "From change to signature", "Service level: 99 % within 10 s.", "s", 8, []query{
				{`histogram_quantile(0.50, sum by (le) (rate(trustedresources_signing_latency_seconds_bucket[$__rate_interval])))`, "p50"},
				{`histogram_quantile(0.95, sum by (le) (rate(trustedresources_signing_latency_seconds_bucket[$__rate_interval])))`, "p95"},
				{`histogram_quantile(0.99, sum by (le) (rate(trustedresources_signing_latency_seconds_bucket[$__rate_interval])))`, "p99"},
			}, nil},
			{graph, "Share of slow changes", "Changes that were not signed within 10 s. The budget is 1 % in a month.", "percentunit", 8, []query{
				{`trustedresources:signing_slow:ratio_rate1h`, "last hour"},
				{`trustedresources:signing_slow:ratio_rate1d`, "last day"},
			}, nil},
			{graph, "Backlog", "Age of the oldest resource that is to be signed.", "s", 8, []query{
				{`max by (kind) (trustedresources_oldest_unsigned_age_seconds)`, "{{kind}}"},
			}, nil},
			{graph, "Signatures", "Per second. ContentChanged counts signatures after a change.", "ops", 8, []query{
				{`sum by (kind, reason) (rate(trustedresources_signatures_total[$__rate_interval]))`, "{{kind}} {{reason}}"},
			}, nil},
			{graph, "Signing failures", "In the last 10 minutes. The runbook explains the reasons.", "short", 8, []query{
				{`sum by (kind, reason) (increase(trustedresources_signing_failures_total[10m])) > 0`, "{{kind}} {{reason}}"},
			}, nil},
			{graph, "Key operations", "Time of one signature with the key, the 99th percentile.", "s", 8, []query{
				{`histogram_quantile(0.99, sum by (le, signer) (rate(trustedresources_signing_duration_seconds_bucket[$__rate_interval])))`, "{{signer}}"},
			}, nil},
			{graph, "Stored in a registry", "Resources per minute; false: the registry already had the resource.", "short", 8, []query{
				{`60 * sum by (kind, uploaded) (rate(trustedresources_stored_total[$__rate_interval]))`, "{{kind}} uploaded={{uploaded}}"},
			}, nil},
			{graph, "Work queues", "Resources and runs that wait for a worker.", "short", 8, []query{
				{`sum by (name) (kn_workqueue_depth)`, "{{name}}"},
			}, nil},
			{graph, "Runs that are not signed", "Runs without an attestation, in the last 10 minutes.", "short", 8, []query{
				{`sum by (kind, reason) (increase(trustedresources_run_failures_total[10m]))`, "{{kind}} {{reason}}"},
			}, nil},
		}},
		{"Verification", []panel{
			{graph, "Time of a verification", "Without a result in the cache.", "s", 8, []query{
				{`histogram_quantile(0.50, sum by (le) (rate(trustedresources_verification_duration_seconds_bucket{cache="miss"}[$__rate_interval])))`, "p50"},
				{`histogram_quantile(0.95, sum by (le) (rate(trustedresources_verification_duration_seconds_bucket{cache="miss"}[$__rate_interval])))`, "p95"},
				{`histogram_quantile(0.99, sum by (le) (rate(trustedresources_verification_duration_seconds_bucket{cache="miss"}[$__rate_interval])))`, "p99"},
			}, nil},
			{graph, "Hit ratio of caches", "", "percentunit", 8, []query{
				{`sum by (cache) (rate(trustedresources_cache_requests_total{outcome="hit"}[$__rate_interval])) / sum by (cache) (rate(trustedresources_cache_requests_total[$__rate_interval]))`, "{{cache}}"},
			}, nil},
			{graph, "Entries in caches", "", "short", 8, []query{
				{`max by (cache) (trustedresources_cache_entries)`, "{{cache}}"},
			}, nil},
			{graph, "Verifications", "Resources behind runs, per second.", "ops", 12, []query{
				{`sum by (kind, result) (rate(trustedresources_verifications_total[$__rate_interval]))`, "{{kind}} {{result}}"},
			}, nil},
			{graph, "Results that are not PASSED", "In the last 10 minutes, by reason.", "short", 12, []query{
				{`sum by (result, reason) (increase(trustedresources_verifications_total{result!="PASSED"}[10m]))`, "{{result}} {{reason}}"},
			}, nil},
		}},
		{"The gate", []panel{
			{graph, "Decisions", "In the last 10 minutes. A Pod that waits is counted each time that it is looked at.", "short", 8, []query{
				{`sum by (decision) (increase(trustedresources_gate_decisions_total[10m]))`, "{{decision}}"},
			}, nil},
			{graph, "Time that Pods are held", "", "s", 8, []query{
				{`histogram_quantile(0.50, sum by (le) (rate(trustedresources_gate_wait_seconds_bucket[$__rate_interval])))`, "p50"},
				{`histogram_quantile(0.95, sum by (le) (rate(trustedresources_gate_wait_seconds_bucket[$__rate_interval])))`, "p95"},
				{`histogram_quantile(0.99, sum by (le) (rate(trustedresources_gate_wait_seconds_bucket[$__rate_interval])))`, "p99"},
			}, nil},
			{graph, "Admission policies", "Checks of the API server per second. Any error_type but no_error is a fault.", "ops", 8, []query{
				{`sum by (policy, error_type) (rate(apiserver_mutating_admission_policy_check_total{policy=~".+[.]trustedresources[.]tekton[.]dev"}[$__rate_interval]))`, "{{policy}} {{error_type}}"},
				{`sum by (policy, error_type) (rate(apiserver_validating_admission_policy_check_total{policy=~".+[.]trustedresources[.]tekton[.]dev"}[$__rate_interval]))`, "{{policy}} {{error_type}}"},
			}, nil},
			{graph, "Requesters", "Writes that the webhook answered, per second.", "ops", 8, []query{
				{`sum by (kind, effect) (rate(trustedresources_requesters_total[$__rate_interval]))`, "{{kind}} {{effect}}"},
			}, nil},
		}},
	},
}

var keysAndDependencies = dashboard{
	uid:         "trusted-resources-keys",
	title:       "Trusted Resources: keys and dependencies",
	description: "Keys, rotations, and the systems that the controller needs.",
	rows: []row{
		{"Keys", []panel{
			{table, "Keys", "Each key that a replica has loaded, and its role.", "", 12, []query{
				{`max by (key_id, signer, role) (trustedresources_key_info)`, ""},
			}, nil},
			{stat, "Age of the active key", "", "s", 6, []query{
				{`time() - max by (key_id) (trustedresources_key_active_since_timestamp_seconds)`, "{{key_id}}"},
			}, []limit{{from: 365 * 86400, color: "orange"}}},
			{stat, "Signers without a key", "A kind is to be signed with this signer, and there is no active key.", "short", 6, []query{
				{`count(max by (signer) (trustedresources_signer_required) == 1 unless on (signer) max by (signer) (trustedresources_key_info{role="active"}) == 1) or vector(0)`, ""},
			}, anyIsBad},
			{graph, "Rotation", "Resources with a signature of each key. Those of a retired key go to 0.", "short", 24, []query{
				{`sum by (key_id, role) (trustedresources_key_resources)`, "{{role}} {{key_id}}"},
			}, nil},
		}},
		{"KMS and registry", []panel{
			{graph, "KMS: time", "The 99th percentile.", "s", 12, []query{
				{`histogram_quantile(0.99, sum by (le, provider, operation) (rate(trustedresources_kms_request_duration_seconds_bucket[$__rate_interval])))`, "{{provider}} {{operation}}"},
			}, nil},
			{graph, "KMS: outcome", "Requests per second.", "ops", 12, []query{
				{`sum by (provider, outcome) (rate(trustedresources_kms_request_duration_seconds_count[$__rate_interval]))`, "{{provider}} {{outcome}}"},
			}, nil},
			{graph, "Registry: time", "The 99th percentile.", "s", 12, []query{
				{`histogram_quantile(0.99, sum by (le, operation) (rate(trustedresources_registry_request_duration_seconds_bucket[$__rate_interval])))`, "{{operation}}"},
			}, nil},
			{graph, "Registry: responses", "Requests per second.", "ops", 12, []query{
				{`sum by (operation, code) (rate(trustedresources_registry_request_duration_seconds_count[$__rate_interval]))`, "{{operation}} {{code}}"},
			}, nil},
			{bar, "Days until a certificate expires", "", "d", 12, []query{
				{`(min by (use) (trustedresources_certificate_not_after_timestamp_seconds) - time()) / 86400`, "{{use}}"},
			}, daysOfCertif},
		}},
		{"Records", []panel{
			{graph, "Audit records", "Per second. Anything but written is a loss.", "ops", 8, []query{
				{`sum by (sink, outcome) (rate(trustedresources_audit_records_total[$__rate_interval]))`, "{{sink}} {{outcome}}"},
			}, nil},
			{graph, "Reports", "Writes per second, if verdicts are reported to OpenReports. Anything but written is missing there.", "ops", 8, []query{
				{`sum by (outcome) (rate(trustedresources_report_writes_total[$__rate_interval]))`, "{{outcome}}"},
			}, nil},
			{graph, "Events that were dropped", "Too many waited to be posted. The log has what they said.", "short", 8, []query{
				{`sum by (type) (increase(trustedresources_events_dropped_total[$__rate_interval]))`, "{{type}}"},
			}, nil},
			{stat, "Metrics with an overflow", "Metrics that have lost their labels, because they have more than 2,000 combinations of them.", "short", 12, []query{
				{`count(count by (__name__) ({__name__=~"trustedresources_.+", otel_metric_overflow="true"})) or vector(0)`, ""},
			}, anyIsBad},
			{stat, "Refused configurations", "In the time range of the dashboard.", "short", 12, []query{
				{`sum(increase(trustedresources_config_errors_total[$__range]))`, ""},
			}, anyIsBad},
		}},
		{"Processes", []panel{
			{graph, "Memory", "", "bytes", 12, []query{
				{`process_resident_memory_bytes and on (job, instance) trustedresources_leader`, "{{instance}}"},
			}, nil},
			{graph, "CPU", "Cores.", "short", 12, []query{
				{`rate(process_cpu_seconds_total[$__rate_interval]) and on (job, instance) trustedresources_leader`, "{{instance}}"},
			}, nil},
		}},
	},
}
