// SPDX-License-Identifier: Apache-2.0

// Command generate writes the dashboards and the PrometheusRule of config/monitoring. The
// dashboards are made from the table in panels.go, and the PrometheusRule from rules.yaml.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", "../../config/monitoring", "directory of rules.yaml, and of the files to write")
	flag.Parse()
	if err := generate(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// generate writes the files into the directory in which rules.yaml is.
func generate(dir string) error {
	rules, err := os.ReadFile(filepath.Join(dir, "rules.yaml"))
	if err != nil {
		return err
	}
	files, err := generated(rules)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generated returns the content of each file.
func generated(rules []byte) (map[string][]byte, error) {
	rule, err := prometheusRule(rules)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{"801-prometheusrule.yaml": rule}
	for _, d := range dashboards {
		if files[d.uid+".json"], err = d.json(); err != nil {
			return nil, fmt.Errorf("dashboard %s: %w", d.uid, err)
		}
	}
	return files, nil
}
