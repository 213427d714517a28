// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"

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
