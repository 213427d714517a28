// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

func TestMetrics_CountSignaturesAndConfigErrors(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.createTask(newTask(ns, "counted"))
	e.waitSigned(ns, "counted")
	e.patchTask(ns, "counted", `{"spec":{"description":"changed"}}`)
	e.waitSigned(ns, "counted")
	e.configure(with(signAll, map[string]string{"artifacts.task.signer": "pgp"}))
	for _, want := range []string{
		`trustedresources_signatures_total{kind="Task",reason="Unsigned"} 1`,
		`trustedresources_signatures_total{kind="Task",reason="ContentChanged"} 1`,
		`trustedresources_config_errors_total 1`,
	} {
		e.waitMetric(want)
	}
}

// Failures are counted by namespace and policy, and each series with known labels is there
// before the first event.
func TestMetrics_CountFailuresByNamespaceAndPolicy(t *testing.T) {
	e := startController(t)
	e.configure(withProvenance)
	for _, want := range []string{
		`trustedresources_signatures_total{kind="StepAction",reason="KeyRotated"} 0`,
		`trustedresources_signing_failures_total{kind="Task",reason="NoSigningKey"} 0`,
		`trustedresources_verification_differences_total{kind="PipelineRun"} 0`,
	} {
		e.waitMetric(want)
	}
	m := newMatrix(e)
	ns := e.namespaceLabelled(nil)
	m.createPolicy(ns, "watch", ".*", tekton.ModeWarn, m.signer)
	e.createTask(newTask(ns, "unsigned"))
	m.createTaskRun(ns, "run", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, ns, "unsigned")})
	e.expectSuccess(m.waitDone(ns, "run"))
	e.waitMetric(`trustedresources_verification_failures_total{kind="Task",mode="warn",reason="Unsigned",resource_namespace="` + ns + `"} 1`)
	e.waitMetric(`trustedresources_policy_violations_total{mode="warn",policy="watch",policy_scope="namespace",resource_namespace="` + ns + `"} 1`)
}

// The gauges say how the signatures of the selected namespaces stand, and who signs. Series
// of states that no resource has any more end.
func TestMetrics_SayHowSignaturesStand(t *testing.T) {
	e := startController(t)
	ns := e.namespace()
	e.createTask(newTask(ns, "one"))
	e.createTask(newTask(ns, "two"))
	other := e.namespaceLabelled(nil)
	e.createTask(newTask(other, "not-selected"))
	standing := func(namespace, state string) string {
		return `trustedresources_resources{enforced="false",kind="Task",resource_namespace="` + namespace + `",state="` + state + `"}`
	}
	for _, want := range []string{
		standing(ns, "signed") + " 2",
		`trustedresources_leader{kind="Task"} 1`,
		`trustedresources_inventory_complete{kind="Task"} 1`,
		`trustedresources_oldest_unsigned_age_seconds{kind="Task"} 0`,
		`trustedresources_signing_duration_seconds_count{kind="Task"} 2`,
		`trustedresources_signing_latency_seconds_bucket{kind="Task",le="+Inf"} 2`,
		`trustedresources_config_valid 1`,
	} {
		e.waitMetric(want)
	}
	e.configure(with(signAll, map[string]string{"artifacts.task.signer": "pgp"}))
	e.waitMetric(`trustedresources_config_valid 0`)
	e.configure(with(signAll, map[string]string{"trustedresources.requester": "required"}))
	e.createTask(newTask(ns, "without-requester"))
	e.waitMetric(standing(ns, "unsigned") + " 1")
	e.configure(signAll)
	e.waitMetric(standing(ns, "signed") + " 3")
	metrics, err := httpGet(e.t.Context(), e.controller.MetricsURL)
	e.check(err)
	for line := range strings.Lines(metrics) {
		for _, ended := range []string{standing(ns, "unsigned"), `resource_namespace="` + other + `"`} {
			if strings.Contains(withoutScope(line), ended) {
				t.Errorf("got %s, want no such series", withoutScope(line))
			}
		}
	}
}

// Runs are counted by what Tekton decided and by what the gate decided, and verdicts are
// timed.
func TestMetrics_MeasureRunsAndTheGate(t *testing.T) {
	g := startGated(t)
	enforced, watched := g.enforced(), g.namespaceLabelled(map[string]string{v1alpha1.VerifyLabel: v1alpha1.VerifyWarn})
	g.createPolicies(watched, trusted)
	plain, lenient := g.namespaceLabelled(nil), g.namespaceLabelled(nil)
	g.createPolicies(plain, trusted)
	g.createPolicies(lenient, warned)
	run := func(namespace, task string, resolved bool) {
		t.Helper()
		ref := &v1.TaskRef{Name: task}
		if resolved { // Tekton itself verifies no others
			ref = &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, task)}
		}
		g.createTaskRun(namespace, task, ref)
		g.waitDone(namespace, task)
	}
	for _, namespace := range []string{enforced, watched, plain, lenient} {
		g.signedTask(namespace, "signed")
		g.createTask(newTask(namespace, "unsigned"))
	}
	run(enforced, "signed", false) // the gate leads from here on
	run(enforced, "unsigned", false)
	run(watched, "signed", false)
	run(watched, "unsigned", false)
	run(plain, "signed", true)
	run(plain, "unsigned", true)
	run(lenient, "unsigned", true)
	for _, want := range []string{
		`trustedresources_gate_decisions_total{decision="released"} 1`,
		`trustedresources_gate_decisions_total{decision="refused"} 1`,
		`trustedresources_gate_decisions_total{decision="would-release"} 1`,
		`trustedresources_gate_decisions_total{decision="would-refuse"} 1`,
		`trustedresources_gate_decisions_total{decision="opened"} 0`,
		`trustedresources_gate_wait_seconds_count{decision="released"} 1`,
		`trustedresources_gate_wait_seconds_count{decision="refused"} 1`,
		`trustedresources_tekton_verdicts_total{kind="TaskRun",verdict="passed"} 1`,
		`trustedresources_tekton_verdicts_total{kind="TaskRun",verdict="refused"} 1`,
		`trustedresources_tekton_verdicts_total{kind="TaskRun",verdict="warned"} 1`,
		`trustedresources_tekton_verdicts_total{kind="PipelineRun",verdict="passed"} 0`,
	} {
		g.waitMetric(want)
	}
	g.waitMetricAtLeast(`trustedresources_verification_duration_seconds_count{cache="miss",result="PASSED"}`, 3)
	g.waitMetricAtLeast(`trustedresources_verification_duration_seconds_count{cache="miss",result="FAILED"}`, 1)
	g.waitMetricAtLeast(`trustedresources_cache_requests_total{cache="verdicts",outcome="miss"}`, 4)
	g.waitMetricAtLeast(`trustedresources_cache_entries{cache="verdicts"}`, 4)
	hits := g.metric(`trustedresources_cache_requests_total{cache="verdicts",outcome="hit"}`)
	g.createTaskRun(plain, "again", &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, plain, "signed")})
	g.waitDone(plain, "again")
	g.waitMetric(`trustedresources_tekton_verdicts_total{kind="TaskRun",verdict="passed"} 2`)
	g.waitMetricAtLeast(`trustedresources_cache_requests_total{cache="verdicts",outcome="hit"}`, hits+1)
	g.waitMetricAtLeast(`trustedresources_verification_duration_seconds_count{cache="hit",result="PASSED"}`, 1)
}

// Requests to KMS and registries are timed, also those that nobody answers. A run that waits
// for a KMS is counted, and one that is let go when its namespace loses the label.
func TestMetrics_MeasureRequestsToOthers(t *testing.T) {
	e := startControllerForAWS(t)
	kms := e.startSilentKMS()
	proxy, err := harness.StartProxy(t.Context(), e.startRegistry().Host())
	e.check(err)
	e.cleanup(proxy.Stop)
	e.configure(with(with(storingSettings(proxy.Host(), "tekton,oci"), withProvenance), map[string]string{"trustedresources.policies.kms": kms.prefix()}))
	g := newGated(e)

	stored := g.namespace()
	g.createTask(newTask(stored, "stored"))
	g.waitMetric(`trustedresources_stored_total{kind="Task",uploaded="true"} 1`)
	g.waitMetricAtLeast(`trustedresources_registry_request_duration_seconds_count{code="2xx",operation="write"}`, 1)
	g.waitMetricAtLeast(`trustedresources_registry_request_duration_seconds_count{code="4xx",operation="read"}`, 1)
	proxy.Set(func(*http.Request) harness.Fault { return harness.CutOff() })
	g.createTask(newTask(stored, "cut-off"))
	g.waitMetricAtLeast(`trustedresources_registry_request_duration_seconds_count{code="error",operation="read"}`, 1)

	ns := g.namespaceLabelled(map[string]string{v1alpha1.SignLabel: "true", v1alpha1.VerifyLabel: v1alpha1.VerifyEnforce})
	g.createKMSPolicy(ns, ".*", kms.reference())
	g.createTask(newTask(ns, "build", withGarbage))
	g.createTaskRun(ns, "waits", &v1.TaskRef{Name: "build"})
	g.waitMetricAtLeast(`trustedresources_gate_decisions_total{decision="waiting"}`, 1)
	g.waitMetricAtLeast(`trustedresources_kms_request_duration_seconds_count{operation="public_key",outcome="error",provider="awskms"}`, 1)
	g.waitMetricAtLeast(`trustedresources_kms_request_duration_seconds_sum{operation="public_key",outcome="error",provider="awskms"}`, 1)
	for _, cache := range []string{"run_policy_keys", "signing_policy_keys"} {
		g.waitMetricAtLeast(`trustedresources_cache_requests_total{cache="`+cache+`",outcome="miss"}`, 1)
		g.waitMetricAtLeast(`trustedresources_cache_entries{cache="`+cache+`"}`, 1)
	}
	_, err = cluster.Kube.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"`+v1alpha1.VerifyLabel+`":null}}}`), metav1.PatchOptions{})
	g.check(err)
	g.waitMetric(`trustedresources_gate_decisions_total{decision="opened"} 1`)
	g.waitMetric(`trustedresources_gate_wait_seconds_count{decision="opened"} 1`)
}

// waitMetric waits until the controller's metrics contain a line.
func (e *env) waitMetric(want string) {
	e.t.Helper()
	e.eventually(soon, func() error {
		metrics, err := httpGet(e.t.Context(), e.controller.MetricsURL)
		if err != nil {
			return err
		}
		for line := range strings.Lines(metrics) {
			if withoutScope(line) == want {
				return nil
			}
		}
		return fmt.Errorf("the metrics have no line %s:\n%s", want, linesWith(metrics, "trustedresources"))
	})
}

// waitMetricAtLeast waits until the value of a series is at least a number.
func (e *env) waitMetricAtLeast(series string, least float64) {
	e.t.Helper()
	e.eventually(soon, func() error {
		if got := e.metric(series); got < least {
			return fmt.Errorf("%s is %v, want at least %v", series, got, least)
		}
		return nil
	})
}

// metric returns the value of a series of the controller, or 0 if there is no such series.
func (e *env) metric(series string) float64 {
	e.t.Helper()
	metrics, err := httpGet(e.t.Context(), e.controller.MetricsURL)
	e.check(err)
	for line := range strings.Lines(metrics) {
		if value, found := strings.CutPrefix(withoutScope(line), series+" "); found {
			got, err := strconv.ParseFloat(value, 64)
			e.check(err)
			return got
		}
	}
	return 0
}

// sumMetric adds up the values of a counter in all lines that contain the label.
func (e *env) sumMetric(counter, label string) (total int, err error) {
	metrics, err := httpGet(e.t.Context(), e.controller.MetricsURL)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(metrics) {
		if !strings.HasPrefix(line, counter+"{") || !strings.Contains(line, label) {
			continue
		}
		var count int
		if _, err := fmt.Sscan(line[strings.LastIndex(line, "}")+1:], &count); err != nil {
			return 0, err
		}
		total += count
	}
	return total, nil
}

// withoutScope removes the labels that name the OpenTelemetry instrumentation scope.
func withoutScope(line string) string {
	line = strings.TrimSpace(line)
	name, rest, found := strings.Cut(line, "{")
	if !found {
		return line
	}
	labels, value, _ := strings.Cut(rest, "}")
	var kept []string
	for label := range strings.SplitSeq(labels, ",") {
		if !strings.HasPrefix(label, "otel_scope_") {
			kept = append(kept, label)
		}
	}
	if len(kept) == 0 {
		return name + value
	}
	return name + "{" + strings.Join(kept, ",") + "}" + value
}

func linesWith(text, with string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, with) {
			found.WriteString(line)
		}
	}
	return found.String()
}

func httpGet(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}
