// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

const ruleHeader = `# Written by "make generate" from rules.yaml. Change that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tekton-chains-trusted-resources
  namespace: tekton-chains
  labels:
    app.kubernetes.io/component: controller
    app.kubernetes.io/part-of: tekton-chains
spec:
`

// prometheusRule puts a file of rules into the custom resource of the Prometheus operator, whose
// spec has the same format. Lines stay as they are, except for comments before the rules.
func prometheusRule(rules []byte) ([]byte, error) {
	var file struct {
		Groups []map[string]any `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(rules, &file); err != nil {
		return nil, fmt.Errorf("rules.yaml: %w", err)
	}
	_, groups, found := strings.Cut(string(rules), "\ngroups:\n")
	if !found {
		return nil, fmt.Errorf("rules.yaml: found no line %q", "groups:")
	}
	var out strings.Builder
	out.WriteString(ruleHeader)
	for line := range strings.Lines("groups:\n" + groups) {
		if strings.TrimSpace(line) != "" {
			out.WriteString("  ")
		}
		out.WriteString(line)
	}
	return []byte(out.String()), nil
}
