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
