// SPDX-License-Identifier: Apache-2.0

//go:build monitoring

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// watched is an env whose controller, webhook and API server a Prometheus scrapes.
type watched struct {
	*gated

	prometheus *harness.Prometheus
	promtool   harness.PrometheusPrograms
	kms        silentKMS
	settings   map[string]string
	begun      time.Time
}

// startWatched starts everything, with all rules of config/monitoring in a shortened form.
func startWatched(t *testing.T) *watched {
	t.Helper()
	programs, err := harness.BuildPrometheus(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	e := startControllerForAWS(t)
	w := &watched{promtool: programs, kms: e.startSilentKMS()}
	w.gated = newGated(e) // before the webhook, which holds Pods, too: at the end, the gate waits until none is held
	webhook, err := cluster.InstallWebhook(t.Context())
	if webhook != nil {
		e.cleanup(func() error { return webhook.Remove(cleanupContext()) })
	}
	e.check(err)
	w.settings = with(with(signAll, withProvenance), map[string]string{
		"artifacts.task.storage": "tekton,oci", "trustedresources.oci.repository": w.registry.Host() + "/tekton", "storage.oci.repository.insecure": "true",
		"trustedresources.policies.kms": w.kms.prefix(), "trustedresources.requester": "record",
	})
	e.configure(w.settings)
	w.startPrometheus(webhook)
	return w
}

func (w *watched) startPrometheus(webhook *harness.Webhook) {
	w.t.Helper()
	rules, err := os.ReadFile(filepath.Join(harness.Root(), "config", "monitoring", "rules.yaml"))
	w.check(err)
	labels := map[string]string{"namespace": "monitoring"} // as a target has in a cluster
	w.begun = time.Now()
	w.prometheus, err = cluster.AddPrometheus(w.t.Context(), w.promtool, shortened(string(rules)),
		harness.ScrapeTarget{Job: "controller", URL: w.controller.MetricsURL, Labels: labels},
		harness.ScrapeTarget{Job: "webhook", URL: webhook.MetricsURL, Labels: labels},
		harness.ScrapeTarget{Job: "apiserver", URL: cluster.Admin.Host + "/metrics", Labels: labels, Token: cluster.Admin.BearerToken, CA: string(cluster.Admin.CAData)},
	)
	w.check(err)
	w.cleanup(func() error { return w.prometheus.Remove(cleanupContext()) })
	w.eventually(soon, func() error {
		up, err := w.prometheus.Query(w.t.Context(), "up == 1")
		if err == nil && len(up) != 3 {
			err = fmt.Errorf("Prometheus scrapes %v, want three targets", up)
		}
		return err
	})
}

var promDuration = regexp.MustCompile(`\b(\d+)([mhd])\b`)

// shortened makes a minute of the rules a second, and replaces the limits that are times. A day
// for which an alert waits is a second, too. A request to a KMS that does not answer takes 10 seconds
// in any case.
func shortened(rules string) string {
	rules = strings.NewReplacer(`outcome="error"}[10m])) >= 2`, `outcome="error"}[1h])) >= 2`, "for: 1d", "for: 1s", "< 600", "< 10", "> 300", "> 3", "> 365 * 86400", "> 60", `{decision="waiting"}[10m])) > 10`, `{decision="waiting"}[1h])) > 0`).Replace(rules)
	return promDuration.ReplaceAllStringFunc(rules, func(duration string) string {
		n, _ := strconv.Atoi(duration[:len(duration)-1])
		return strconv.Itoa(n*map[byte]int{'m': 1, 'h': 60, 'd': 24 * 60}[duration[len(duration)-1]]) + "s"
	})
}

func TestShortened_MakesAMinuteASecond(t *testing.T) {
	const rule = "  - record: trustedresources:verification_failures:increase10m\n    expr: increase(x[15m]) > 0 and y > 300\n    keep_firing_for: 1h\n"
	const want = "  - record: trustedresources:verification_failures:increase10m\n    expr: increase(x[15s]) > 0 and y > 3\n    keep_firing_for: 60s\n"
	if got := shortened(rule); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// alertNames returns the names of all alerts in config/monitoring.
func (e *env) alertNames() (names []string) {
	e.t.Helper()
	content, err := os.ReadFile(filepath.Join(harness.Root(), "config", "monitoring", "rules.yaml"))
	e.check(err)
	var file struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	e.check(yaml.Unmarshal(content, &file))
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" {
				names = append(names, rule.Alert)
			}
		}
	}
	return names
}

// waitSeries waits until Prometheus has a series.
func (w *watched) waitSeries(name string) {
	w.t.Helper()
	w.eventually(soon, func() error {
		series, err := w.prometheus.Query(w.t.Context(), name)
		if err == nil && len(series) == 0 {
			err = fmt.Errorf("Prometheus has no series %s", name)
		}
		return err
	})
}

// firing returns the names of the alerts that fire now, sorted.
func (w *watched) firing() []string {
	w.t.Helper()
	series, err := w.prometheus.Query(w.t.Context(), `count by (alertname) (ALERTS{alertstate="firing"})`)
	w.check(err)
	names := make([]string, 0, len(series))
	for _, s := range series {
		names = append(names, s.Labels["alertname"])
	}
	return slices.Sorted(slices.Values(names))
}

// waitFiring waits until each of the alerts has fired. Those about single events end while the test
// waits for others.
func (w *watched) waitFiring(alerts ...string) {
	w.t.Helper()
	missing := alerts
	w.eventually(2*afterFailover, func() error {
		firing := w.firing()
		missing = slices.DeleteFunc(slices.Clone(missing), func(alert string) bool { return slices.Contains(firing, alert) })
		if len(missing) > 0 {
			return fmt.Errorf("%q have not fired; firing are %q", missing, firing)
		}
		return nil
	})
}

// waitResolved waits until alerts do not fire any more.
func (w *watched) waitResolved(alerts ...string) {
	w.t.Helper()
	w.eventually(4*afterFailover, func() error {
		for _, alert := range w.firing() {
			if slices.Contains(alerts, alert) {
				return fmt.Errorf("%s fires", alert)
			}
		}
		return nil
	})
}

// grafanaPanel is what the test needs of a panel.
type grafanaPanel struct {
	Title   string
	Targets []struct{ Expr string }
}

// panels returns the panels of all dashboards by the names of their files.
func (e *env) panels() map[string][]grafanaPanel {
	e.t.Helper()
	files, err := filepath.Glob(filepath.Join(harness.Root(), "config", "monitoring", "*.json"))
	e.check(err)
	if len(files) != 3 {
		e.t.Fatalf("%d dashboards, want 3", len(files))
	}
	all := map[string][]grafanaPanel{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		e.check(err)
		var dashboard struct{ Panels []grafanaPanel }
		e.check(json.Unmarshal(content, &dashboard))
		all[filepath.Base(file)] = dashboard.Panels
	}
	return all
}
