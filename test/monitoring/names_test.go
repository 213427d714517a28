// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// foreign are the metrics of others that our rules and dashboards use.
var foreign = []string{
	"ALERTS", "up", // Prometheus
	"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total", // the Go client of Prometheus
	"kn_workqueue_depth",                                                                                   // knative
	"apiserver_mutating_admission_policy_check_total", "apiserver_validating_admission_policy_check_total", // Kubernetes
}

var histogram = regexp.MustCompile(`_(duration|latency|wait)_seconds$`)

// documented returns the metrics in the table of docs/reference.md, and the metric of each name
// of a series: a histogram has three.
func documented(t *testing.T) (metrics []string, series map[string]string) {
	t.Helper()
	metrics = metricName.FindAllString(section(read(t, "docs/reference.md"), "## Metrics"), -1)
	slices.Sort(metrics)
	metrics = slices.Compact(metrics)
	if len(metrics) == 0 {
		t.Fatal("docs/reference.md names no metric")
	}
	series = map[string]string{}
	for _, name := range metrics {
		if !histogram.MatchString(name) {
			series[name] = name
			continue
		}
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			series[name+suffix] = name
		}
	}
	return metrics, series
}

// Each metric of an expression exists, and each metric that exists is used in an expression.
func TestMetrics_AreThoseOfTheReference(t *testing.T) {
	metrics, series := documented(t)
	recorded := map[string]bool{}
	for _, rule := range rules(t) {
		recorded[rule.Record] = true
	}
	used := map[string]bool{}
	for where, expression := range expressions(t) {
		for _, name := range selected(t, where, expression) {
			metric, found := series[name]
			used[metric] = true
			if !found && !recorded[name] && !slices.Contains(foreign, name) {
				t.Errorf("%s uses %s, which docs/reference.md does not have", where, name)
			}
		}
	}
	for _, name := range metrics {
		if !used[name] {
			t.Errorf("no rule and no dashboard uses %s", name)
		}
	}
}

func TestPages_NameMetricsOfTheReference(t *testing.T) {
	metrics, _ := documented(t)
	for _, page := range []string{"docs/monitoring.md", "docs/runbook.md"} {
		for _, name := range metricName.FindAllString(read(t, page), -1) {
			if !slices.Contains(metrics, name) {
				t.Errorf("%s names %s, which docs/reference.md does not have", page, name)
			}
		}
	}
}

// All metrics of an expression are found, also those after operators and in regular expressions.
func TestSelected_FindsEachMetric(t *testing.T) {
	got := selected(t, "test", `sum(rate(a_total{x="y"}[5m])) / on (b) c unless {__name__=~"e_(f|g)"} offset 1h`)
	if want := []string{"a_total", "c", "e_f", "e_g"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// selected returns the names of the metrics in an expression. Of a regular expression, they are
// all alternatives, or nothing for a prefix.
func selected(t *testing.T, where, expression string) []string {
	t.Helper()
	parsed, err := promQL.ParseExpr(expression)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return nil
	}
	names := map[string]bool{}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		selector, is := node.(*parser.VectorSelector)
		if !is {
			return nil
		}
		for _, matcher := range selector.LabelMatchers {
			if matcher.Name != model.MetricNameLabel {
				continue
			}
			switch matcher.Type { //nolint:exhaustive // the others name no metric
			case labels.MatchEqual:
				names[matcher.Value] = true
			case labels.MatchRegexp:
				for _, name := range alternatives(matcher.Value) {
					names[name] = true
				}
			}
		}
		return nil
	})
	return slices.Sorted(maps.Keys(names))
}

var group = regexp.MustCompile(`^(\w*)\(([\w|]+)\)(\w*)$`)

func alternatives(pattern string) (names []string) {
	parts := group.FindStringSubmatch(pattern)
	if parts == nil {
		return nil
	}
	for middle := range strings.SplitSeq(parts[2], "|") {
		names = append(names, parts[1]+middle+parts[3])
	}
	return names
}
