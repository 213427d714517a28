// SPDX-License-Identifier: Apache-2.0

// Package monitoring tests the rules and dashboards of config/monitoring, and the pages about
// them, with the parser and the promtool of Prometheus. It is a Go module of its own, because the
// dependencies of Prometheus are not those of the controller.
package monitoring

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// project is the source tree.
var project = os.DirFS("../..")

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := fs.ReadFile(project, file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// promQL parses expressions as a Prometheus without feature flags does.
var promQL = parser.NewParser(parser.Options{})

// rules returns all rules of config/monitoring/rules.yaml.
func rules(t *testing.T) (all []rulefmt.Rule) {
	t.Helper()
	parsed, errs := rulefmt.Parse([]byte(read(t, "config/monitoring/rules.yaml")), false, model.UTF8Validation, promQL, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if parsed == nil {
		t.FailNow()
	}
	for _, group := range parsed.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

func alerts(t *testing.T) (all []rulefmt.Rule) {
	t.Helper()
	for _, rule := range rules(t) {
		if rule.Alert != "" {
			all = append(all, rule)
		}
	}
	return all
}

// dashboard is what the tests need of a dashboard.
type dashboard struct {
	UID    string
	Panels []struct {
		ID, Title, Type any
		GridPos         struct{ X, Y, W, H int }
		Targets         []struct{ Expr string }
	}
}

// dashboards returns the dashboards by the names of their files.
func dashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := fs.Glob(project, "config/monitoring/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	all := map[string]dashboard{}
	for _, file := range files {
		var d dashboard
		if err := json.Unmarshal([]byte(read(t, file)), &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[file] = d
	}
	return all
}

// Grafana replaces these variables in a query before Prometheus sees the query.
var grafanaVariables = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1d")

// expressions returns each expression of the rules and dashboards, and where it is.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, rule := range rules(t) {
		all["rule "+rule.Alert+rule.Record] = rule.Expr
	}
	for file, d := range dashboards(t) {
		for _, panel := range d.Panels {
			for _, query := range panel.Targets {
				all[file+": "+panel.Title.(string)+": "+query.Expr] = grafanaVariables.Replace(query.Expr)
			}
		}
	}
	return all
}

// section returns the text of a page from a heading to the next heading of the same level.
func section(page, heading string) string {
	_, rest, _ := strings.Cut(page, "\n"+heading+"\n")
	text, _, _ := strings.Cut(rest, "\n"+heading[:strings.Index(heading, " ")+1])
	return text
}

var metricName = regexp.MustCompile(`trustedresources_[a-z_]+`)
