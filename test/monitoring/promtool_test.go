// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// promtool is built from the release of Prometheus in go.mod. The tag leaves out the clients of
// clouds.
func promtool(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program := filepath.Join("..", "..", ".localcluster", "bin", "promtool")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "remove_all_sd", "-o", program, "github.com/prometheus/prometheus/cmd/promtool")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", build, err, out)
	}
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(out), err
}

func TestRules_ArePassedByPromtool(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "../../config/monitoring/rules.yaml"},
		{"test", "rules", "testdata/rules_test.yaml", "testdata/rules_slow_test.yaml"},
	} {
		if out, err := promtool(t, args...); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// The tests of the rules notice a change of each rule: a rule that never fires fails a test.
func TestRules_AreAllTested(t *testing.T) {
	type tests struct {
		Tests []struct {
			Promql []struct {
				Expr    string           `json:"expr"`
				Samples []map[string]any `json:"exp_samples"`
			} `json:"promql_expr_test"`
		} `json:"tests"`
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, file := range []string{"rules_test.yaml", "rules_slow_test.yaml"} {
		var all tests
		if err := yaml.Unmarshal([]byte(read(t, "test/monitoring/testdata/"+file)), &all); err != nil {
			t.Fatal(err)
		}
		for _, test := range all.Tests {
			for _, expected := range test.Promql {
				_, name, _ := strings.Cut(expected.Expr, `alertname="`)
				name, _, _ = strings.Cut(name, `"`)
				if len(expected.Samples) > 0 {
					fires[name] = true
				} else {
					quiet[name] = true
				}
			}
		}
	}
	for _, alert := range alerts(t) {
		if !fires[alert.Alert] || !quiet[alert.Alert] {
			t.Errorf("%s: a test that it fires: %t, and that it does not: %t", alert.Alert, fires[alert.Alert], quiet[alert.Alert])
		}
	}
}

// promtool finds a rule that never fires: otherwise the tests above would prove nothing.
func TestRules_WithAnErrorAreFound(t *testing.T) {
	dir := t.TempDir()
	rules := strings.Replace(read(t, "config/monitoring/rules.yaml"), "trustedresources_oldest_unsigned_age_seconds", "trustedresources_oldest_unsigned_age", 1)
	tests := strings.Replace(read(t, "test/monitoring/testdata/rules_test.yaml"), "../../../config/monitoring/rules.yaml", "rules.yaml", 1)
	for name, content := range map[string]string{"rules.yaml": rules, "rules_test.yaml": tests} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := promtool(t, "test", "rules", filepath.Join(dir, "rules_test.yaml"))
	if err == nil || !strings.Contains(out, "TrustedResourcesSigningBacklog") {
		t.Errorf("promtool accepts a rule with a misspelt metric: %v\n%s", err, out)
	}
}
