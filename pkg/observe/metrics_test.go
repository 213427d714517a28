// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
)

// metricNames returns the names of all metrics as Prometheus has them.
func metricNames() (all []string) {
	for name := range descriptions {
		all = append(all, string(name)+"_total")
	}
	for name := range gaugeDescriptions {
		all = append(all, string(name))
	}
	for name := range distributions {
		all = append(all, string(name)+"_seconds")
	}
	for name, d := range stateDescriptions {
		if d.unit == seconds {
			name += "_seconds"
		}
		all = append(all, string(name))
	}
	return all
}

// familyOf returns the name of the metric that a series belongs to: Prometheus has three
// series for each distribution.
func familyOf(series string) string {
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if family, found := strings.CutSuffix(series, "_seconds"+suffix); found {
			return family + "_seconds"
		}
	}
	return series
}

// No page names a metric that does not exist, and the table of metrics has all that do.
func TestMetrics_AreThoseOfTheDocumentation(t *testing.T) {
	project := os.DirFS("../..")
	pages, err := fs.Glob(project, "docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	metric := regexp.MustCompile(`trustedresources_[a-z_]+`)
	for _, page := range append(pages, "README.md") {
		content, err := fs.ReadFile(project, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metric.FindAllString(string(content), -1) {
			if !slices.Contains(metricNames(), familyOf(name)) {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
	reference, err := fs.ReadFile(project, "docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(reference), "\n## Metrics\n")
	for _, name := range metricNames() {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("the table of metrics in docs/reference.md has no %s", name)
		}
	}
}

// Each series that begins with 0 is one of a metric that exists, with no label from a user.
func TestCountFromZero(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range known() {
		if descriptions[c.counter] == "" {
			t.Errorf("%s is not registered", c.counter)
		}
		if text := fmt.Sprint(c); seen[text] {
			t.Errorf("%s is there twice", text)
		} else {
			seen[text] = true
		}
		for _, label := range c.attributes {
			if label.Key == namespaceLabel || label.Key == policyLabel {
				t.Errorf("%s has the label %s", c.counter, label.Key)
			}
		}
	}
	m, err := newMetrics()
	if err != nil {
		t.Fatal(err)
	}
	(&Emitter{metrics: m}).CountFromZero(t.Context())
}

// Many namespaces and policies do not make more series than OpenTelemetry keeps: what a user
// names cannot take away the labels of all others.
func TestSeries_AreBounded(t *testing.T) {
	var s seenSeries
	distinct, others := map[attribute.Distinct]bool{}, 0
	for namespace := range 5000 {
		for _, mode := range []string{"enforce", "warn"} {
			labels := s.bounded(counted{policyViolations, []attribute.KeyValue{
				namespaceLabel.String(fmt.Sprint("ns-", namespace)), policyLabel.String("own"), attribute.String("mode", mode),
			}})
			set := attribute.NewSet(labels...)
			distinct[set.Equivalent()] = true
			if value, _ := set.Value(namespaceLabel); value.AsString() == other {
				others++
				if policy, _ := set.Value(policyLabel); policy.AsString() != other {
					t.Fatalf("got %v", labels)
				}
			}
		}
	}
	if len(distinct) > 2000 || len(distinct) < maxSeries || others != 10_000-maxSeries {
		t.Errorf("%d series, and %d of 10,000 without their labels", len(distinct), others)
	}
	first := s.bounded(counted{policyViolations, []attribute.KeyValue{namespaceLabel.String("ns-0"), policyLabel.String("own"), attribute.String("mode", "warn")}})
	set := attribute.NewSet(first...)
	if value, _ := set.Value(namespaceLabel); value.AsString() != "ns-0" {
		t.Errorf("a series of before lost its labels: %v", first)
	}
}
