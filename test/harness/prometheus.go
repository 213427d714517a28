// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// PartPrometheus is the name of Prometheus as a part of the cluster.
const PartPrometheus = "prometheus"

const modulePrometheus = "github.com/prometheus/prometheus"

// PrometheusPrograms are the paths of programs that are built from test/monitoring.
type PrometheusPrograms struct{ Server, Promtool string }

// BuildPrometheus brings the programs of Prometheus up to date. It is not part of Build,
// because the first build takes 10 minutes of CPU time. The tag leaves out the clients of
// clouds, which only service discovery needs.
func BuildPrometheus(ctx context.Context, out io.Writer) (PrometheusPrograms, error) {
	bin := filepath.Join(Root(), ".localcluster", "bin")
	programs := PrometheusPrograms{Server: filepath.Join(bin, "prometheus"), Promtool: filepath.Join(bin, "promtool")}
	for program, path := range map[string]string{programs.Server: "prometheus", programs.Promtool: "promtool"} {
		build := command(ctx, out, "go", "build", "-C", MonitoringModule(), "-tags", "remove_all_sd", "-o", program, modulePrometheus+"/cmd/"+path)
		if err := build.Run(); err != nil {
			return programs, fmt.Errorf("%s: %w", build, err)
		}
	}
	return programs, nil
}

// MonitoringModule returns the directory of the Go module with the tests of rules and dashboards.
func MonitoringModule() string { return filepath.Join(Root(), "test", "monitoring") }

// Check gives the metrics in the text format to "promtool check metrics".
func (p PrometheusPrograms) Check(ctx context.Context, metrics string) error {
	check := exec.CommandContext(ctx, p.Promtool, "check", "metrics")
	check.Stdin = strings.NewReader(metrics)
	if out, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", check, err, out)
	}
	return nil
}

// ScrapeTarget is a process that Prometheus scrapes each second.
type ScrapeTarget struct {
	Job string
	// URL is that of the metrics.
	URL string
	// Token authenticates Prometheus; CA is the certificate of the server in PEM.
	Token, CA string
	// Labels are added to all series. A label of the metric with the same name gets the
	// prefix exported_.
	Labels map[string]string
}

// Prometheus is a server that evaluates rules each second. It is a part of the cluster.
type Prometheus struct {
	// URL is that of the API and the pages.
	URL string

	cluster *Cluster
}

// AddPrometheus starts a server with a file of rules, and waits until it is ready.
func (c *Cluster) AddPrometheus(ctx context.Context, programs PrometheusPrograms, rules string, targets ...ScrapeTarget) (*Prometheus, error) {
	dir, err := os.MkdirTemp(c.Dir, "prometheus-")
	if err != nil {
		return nil, err
	}
	config, err := prometheusConfig(targets)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string]string{"prometheus.json": config, "rules.yaml": rules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("127.0.0.1:%d", ports[0])
	p := &Prometheus{URL: "http://" + address, cluster: c}
	_, err = c.localcluster(ctx, "add", PartPrometheus, "--ready-url", p.URL+"/-/ready", "--",
		programs.Server, "--config.file="+filepath.Join(dir, "prometheus.json"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	return p, err
}

// prometheusConfig returns the configuration in JSON, which is YAML.
func prometheusConfig(targets []ScrapeTarget) (string, error) {
	type object = map[string]any
	jobs := make([]object, 0, len(targets))
	for _, target := range targets {
		address, err := url.Parse(target.URL)
		if err != nil {
			return "", err
		}
		job := object{
			"job_name": target.Job, "scheme": address.Scheme, "metrics_path": address.Path,
			"static_configs": []object{{"targets": []string{address.Host}, "labels": target.Labels}},
		}
		if target.Token != "" {
			job["authorization"] = object{"credentials": target.Token}
			job["tls_config"] = object{"ca": target.CA}
		}
		jobs = append(jobs, job)
	}
	config, err := json.Marshal(object{
		"global":         object{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files":     []string{"rules.yaml"},
		"scrape_configs": jobs,
	})
	return string(config), err
}

// Series is a series of an answer: its labels, and its values without their times.
type Series struct {
	Labels map[string]string
	Values []string
}

// Query evaluates an expression now.
func (p *Prometheus) Query(ctx context.Context, expression string) ([]Series, error) {
	return p.ask(ctx, "query", url.Values{"query": {expression}})
}

// QueryRange evaluates an expression for each second from a time until now.
func (p *Prometheus) QueryRange(ctx context.Context, expression string, from time.Time) ([]Series, error) {
	now := time.Now()
	return p.ask(ctx, "query_range", url.Values{
		"query": {expression}, "start": {from.UTC().Format(time.RFC3339)}, "end": {now.UTC().Format(time.RFC3339)}, "step": {"1s"},
	})
}

func (p *Prometheus) ask(ctx context.Context, path string, query url.Values) ([]Series, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/api/v1/"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  []any
				Values [][]any
			}
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("the answer of Prometheus: %w", err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", query.Get("query"), answer.Error)
	}
	all := make([]Series, 0, len(answer.Data.Result))
	for _, result := range answer.Data.Result {
		s := Series{Labels: result.Metric}
		if result.Value != nil {
			result.Values = append(result.Values, result.Value)
		}
		for _, pair := range result.Values { // a time and a value
			if len(pair) != 2 {
				return nil, errors.New("the answer of Prometheus has a sample that is no pair")
			}
			s.Values = append(s.Values, fmt.Sprint(pair[1]))
		}
		all = append(all, s)
	}
	return all, nil
}

// Remove stops the server. Its log stays.
func (p *Prometheus) Remove(ctx context.Context) error {
	return p.cluster.Control(ctx, "remove", PartPrometheus)
}
