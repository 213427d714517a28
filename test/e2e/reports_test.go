// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	client "github.com/openreports/reports-api/pkg/client/clientset/versioned/typed/openreports.io/v1alpha1"
	v1 "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// taskReport is the name of the Report about Tasks.
const taskReport = "trusted-resources-task"

// withReports is a configuration that reports verdicts.
var withReports = with(withProvenance, map[string]string{"trustedresources.reports": "openreports"})

// afterMinute also leaves time for the next write of a namespace.
var afterMinute = harness.TimeLimit(90 * time.Second)

// reported is an env with a client for Reports.
type reported struct {
	*env

	reports client.ReportsGetter
}

// startReported starts a controller that reports verdicts.
func startReported(t *testing.T) *reported {
	t.Helper()
	e := startController(t)
	reports, err := client.NewForConfig(cluster.Admin)
	e.check(err)
	e.configure(withReports)
	return &reported{e, reports}
}

// installOpenReports installs the CustomResourceDefinitions of OpenReports until the test ends.
func (r *reported) installOpenReports() {
	r.t.Helper()
	dir, err := harness.ModuleDir(r.t.Context(), "github.com/openreports/reports-api")
	r.check(err)
	manifest := filepath.Join(dir, "config", "install.yaml")
	_, err = cluster.RunKubectl(r.t.Context(), "", "apply", "--server-side", "-f", manifest)
	r.check(err)
	r.cleanup(func() error {
		_, err := cluster.RunKubectl(cleanupContext(), "", "delete", "--ignore-not-found", "-f", manifest)
		return err
	})
	_, err = cluster.RunKubectl(r.t.Context(), "", "wait", "--for=condition=Established", "--timeout=30s", "crd/reports.openreports.io")
	r.check(err)
}

// runUnsigned creates an unsigned Task and a run of it, which Tekton refuses.
func (r *reported) runUnsigned(namespace, task, run string) {
	r.t.Helper()
	_, err := cluster.Tekton.TektonV1().Tasks(namespace).Create(r.t.Context(), newTask(namespace, task), metav1.CreateOptions{})
	r.check(err)
	r.run(namespace, task, run)
}

func (r *reported) run(namespace, task, run string) {
	r.t.Helper()
	_, err := cluster.Tekton.TektonV1().TaskRuns(namespace).Create(r.t.Context(),
		newTaskRun(namespace, run, &v1.TaskRef{ResolverRef: harness.ClusterRef(resource.Task, namespace, task)}), metav1.CreateOptions{})
	r.check(err)
	r.waitAttestation(namespace, run, false, soon)
}

// waitReport waits until the Report about the Tasks of a namespace has a summary.
func (r *reported) waitReport(namespace string, want openreports.ReportSummary) *openreports.Report {
	r.t.Helper()
	var report *openreports.Report
	r.eventually(afterMinute, func() (err error) {
		if report, err = r.reports.Reports(namespace).Get(r.t.Context(), taskReport, metav1.GetOptions{}); err != nil {
			return err
		}
		if report.Summary != want {
			return fmt.Errorf("the summary is %+v, want %+v", report.Summary, want)
		}
		return nil
	})
	return report
}

// The Report of a namespace follows the last verdict on each Task, also after the controller
// was started again. It is deleted when reports are turned off; Reports of others stay.
func TestReports_FollowTheVerdicts(t *testing.T) {
	r := startReported(t)
	r.installOpenReports()
	r.applyConfig("reports")
	ns := r.namespaceLabelled(nil)
	r.check(cluster.Trust(t.Context(), ns, r.public))
	foreign := &openreports.Report{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "foreign"}, Source: "another tool"}
	_, err := r.reports.Reports(ns).Create(t.Context(), foreign, metav1.CreateOptions{})
	r.check(err)

	r.runUnsigned(ns, "build", "refused")
	report := r.waitReport(ns, openreports.ReportSummary{Fail: 1})
	result := report.Results[0]
	if result.Policy != "trust" || result.Result != "fail" || result.Properties["reason"] != "Unsigned" || result.Properties["run"] != "TaskRun refused" ||
		result.Subjects[0].Name != "build" || result.Subjects[0].Kind != "Task" || report.Labels[v1alpha1.ReportsLabel] != harness.SystemNamespace {
		t.Errorf("got %+v with labels %v", result, report.Labels)
	}
	table, err := cluster.RunKubectl(t.Context(), "", "get", "reports.openreports.io", "-n", ns)
	r.check(err)
	if !strings.Contains(table, taskReport) {
		t.Errorf("kubectl shows\n%s", table)
	}

	// Another process knows only what is in the Report.
	r.check(r.controller.Kill(t.Context()))
	r.check(r.controller.Start(t.Context()))
	r.runUnsigned(ns, "other", "also-refused")
	r.waitReport(ns, openreports.ReportSummary{Fail: 2})

	r.configure(with(withReports, signAll))
	r.labelNamespace(ns, "true")
	r.waitSigned(ns, "build")
	r.run(ns, "build", "accepted")
	r.waitReport(ns, openreports.ReportSummary{Pass: 1, Fail: 1})

	r.configure(withProvenance)
	r.eventually(soon, func() error {
		_, err := r.reports.Reports(ns).Get(t.Context(), taskReport, metav1.GetOptions{})
		return gone(err)
	})
	if _, err := r.reports.Reports(ns).Get(t.Context(), foreign.Name, metav1.GetOptions{}); err != nil {
		t.Errorf("the Report of another tool: %v", err)
	}
}

// Without the CustomResourceDefinition, and then without the rights, an administrator reads
// once what to do. Afterwards the verdicts are reported without a restart.
func TestReports_WaitForTheDefinitionAndTheRights(t *testing.T) {
	r := startReported(t)
	ns := r.namespaceLabelled(nil)
	r.check(cluster.Trust(t.Context(), ns, r.public))
	configMap, err := cluster.Kube.CoreV1().ConfigMaps(harness.SystemNamespace).Get(t.Context(), harness.ConfigMap, metav1.GetOptions{})
	r.check(err)

	r.applyConfig("reports")
	r.runUnsigned(ns, "build", "refused")
	r.waitEvent(configMap, v1alpha1.ReasonReportsNotWritten, "reports.openreports.io is not installed")
	r.installOpenReports()
	_, err = cluster.RunKubectl(t.Context(), "", "delete", "clusterrolebinding", "tekton-chains-reports")
	r.check(err)
	r.waitEventWithin(afterMinute, configMap, v1alpha1.ReasonReportsNotWritten, "apply config/reports")
	r.applyConfig("reports")
	r.waitReport(ns, openreports.ReportSummary{Fail: 1})
	r.waitEvent(configMap, v1alpha1.ReasonReportsWritten)
	log, err := r.controller.Log()
	r.check(err)
	if n := countLines(log, "No Report is written"); n != 2 {
		t.Errorf("%d log lines about the two problems, want 2", n)
	}
}

// The API server refuses that the service account of the controller touches the Reports of
// other tools.
func TestReports_ServiceAccountIsLimited(t *testing.T) {
	e := newEnv(t)
	r := &reported{env: e}
	r.installOpenReports()
	r.applyConfig("reports")
	config, err := cluster.ServiceAccountConfig(t.Context())
	e.check(err)
	r.reports, err = client.NewForConfig(config)
	e.check(err)
	admin, err := client.NewForConfig(cluster.Admin)
	e.check(err)
	foreign := &openreports.Report{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}, Source: "another tool"}
	ns := e.namespaceLabelled(nil)
	reports := r.reports.Reports(ns)
	e.eventually(soon, func() error { // the admission policy takes a moment
		_, err := reports.Create(t.Context(), foreign, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return forbidden(err)
	})
	created, err := admin.Reports(ns).Create(t.Context(), foreign, metav1.CreateOptions{})
	e.check(err)
	created.Labels = map[string]string{v1alpha1.ReportsLabel: harness.SystemNamespace}
	_, err = reports.Update(t.Context(), created, metav1.UpdateOptions{})
	e.check(forbidden(err))
	e.check(forbidden(reports.Delete(t.Context(), foreign.Name, metav1.DeleteOptions{})))
	own := &openreports.Report{ObjectMeta: metav1.ObjectMeta{Name: taskReport, Labels: created.Labels}}
	_, err = reports.Create(t.Context(), own, metav1.CreateOptions{})
	e.check(err)
	e.check(reports.Delete(t.Context(), own.Name, metav1.DeleteOptions{}))
}

func forbidden(err error) error {
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("want a refusal: %w", orUnlimited(err))
	}
	return nil
}
