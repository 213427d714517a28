// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"knative.dev/pkg/logging"
	"sigs.k8s.io/yaml"
)

func TestUnsampled_RemovesSampling(t *testing.T) {
	for name, tc := range map[string]struct {
		config string
		level  string
	}{
		"none":                       {``, "info"},
		"no word of sampling":        {`{"level":"debug"}`, "debug"},
		"sampling":                   {`{"level":"warn","sampling":{"initial":1,"thereafter":1000}}`, "warn"},
		"sampling in capitals":       {`{"SAMPLING":{"initial":1,"thereafter":1000},"Sampling":{"initial":2}}`, "info"},
		"sampling twice":             {`{"sampling":null,"sampling":{"initial":1,"thereafter":1000}}`, "info"},
		"no sampling":                {`{"sampling":null,"encoding":"console"}`, "info"},
		"the sample of this project": {sample(t), "info"},
	} {
		t.Run(name, func(t *testing.T) {
			full, err := unsampled(tc.config)
			if err != nil {
				t.Fatal(err)
			}
			if got := parse(t, full); got.Sampling != nil || got.Level.String() != tc.level {
				t.Errorf("got sampling %+v and level %s, want none and %s", got.Sampling, got.Level, tc.level)
			}
		})
	}
}

func TestUnsampled_RefusesWhatKnativeCannotUse(t *testing.T) {
	for name, config := range map[string]string{
		"not JSON":         `level: info`,
		"not an object":    `[]`,
		"unknown level":    `{"level":"loud"}`,
		"unknown encoding": `{"encoding":"xml"}`,
		"unknown output":   `{"outputPaths":["ftp://example.com/log"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			full, err := unsampled(config)
			if err == nil {
				t.Error("got no error")
			}
			if parse(t, full).Sampling != nil {
				t.Errorf("got %s, want a configuration without sampling", full)
			}
		})
	}
}

// parse parses a configuration over defaults with sampling, as knative does.
func parse(t *testing.T, config string) zap.Config {
	t.Helper()
	parsed := zap.NewProductionConfig()
	if err := json.Unmarshal([]byte(config), &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

// sample returns the zap-logger-config in config/300-config.yaml.
func sample(t *testing.T) string {
	t.Helper()
	manifests, err := os.ReadFile(filepath.Join("..", "..", "config", "300-config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for manifest := range strings.SplitSeq(string(manifests), "\n---\n") {
		var cm corev1.ConfigMap
		if err := yaml.Unmarshal([]byte(manifest), &cm); err != nil {
			t.Fatal(err)
		}
		if cm.Name == logging.ConfigMapName() {
			return cm.Data["zap-logger-config"]
		}
	}
	t.Fatalf("no ConfigMap %s", logging.ConfigMapName())
	return ""
}
