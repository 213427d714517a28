// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

const runbookURL = "https://github.com/trusted-resources/chains-extension/blob/main/docs/runbook.md#"

var sectionOfAlert = regexp.MustCompile(`(?m)^## (TrustedResources\w+)$`)

// Each alert has a section with a command in the runbook, and each section an alert.
func TestRunbook_HasASectionForEachAlert(t *testing.T) {
	page := read(t, "docs/runbook.md")
	sections := map[string]bool{}
	for _, match := range sectionOfAlert.FindAllStringSubmatch(page, -1) {
		sections[match[1]] = true
		if !strings.Contains(section(page, "## "+match[1]), "```sh\n") {
			t.Errorf("the section %s has no command", match[1])
		}
	}
	if len(sections) < 20 {
		t.Errorf("the runbook has %d sections", len(sections))
	}
	for _, alert := range alerts(t) {
		if !sections[alert.Alert] {
			t.Errorf("the runbook has no section for %s", alert.Alert)
		}
		delete(sections, alert.Alert)
	}
	for name := range sections {
		t.Errorf("the runbook has a section for %s, which is no alert", name)
	}
}

// Each alert says how urgent it is, what it means, and where the runbook is. No `for` is longer
// than a day, so that a restart of Prometheus does not hide the alert for ever.
func TestAlerts_SayWhatToDo(t *testing.T) {
	for _, alert := range alerts(t) {
		if severity := alert.Labels["severity"]; severity != "critical" && severity != "warning" && severity != "info" {
			t.Errorf("%s has the severity %q", alert.Alert, severity)
		}
		if alert.Annotations["summary"] == "" || alert.Annotations["description"] == "" {
			t.Errorf("%s has no summary or no description", alert.Alert)
		}
		if got, want := alert.Annotations["runbook_url"], runbookURL+strings.ToLower(alert.Alert); got != want {
			t.Errorf("%s has the runbook %s, want %s", alert.Alert, got, want)
		}
		if alert.For > model.Duration(24*time.Hour) {
			t.Errorf("%s waits for %v", alert.Alert, alert.For)
		}
	}
}

var (
	eventReason  = regexp.MustCompile(`reason=(\w+)`)
	configMap    = regexp.MustCompile(`configmap ([a-z-]+)`)
	link         = regexp.MustCompile(`\]\(([a-z-]*\.md)?(?:#([a-z0-9-]+))?\)`)
	noAnchorChar = regexp.MustCompile(`[^a-z0-9 -]`)
)

// The commands of the runbook name Events and ConfigMaps that the code and the manifests have, and
// links lead somewhere. The end-to-end tests execute the commands.
func TestRunbook_NamesWhatExists(t *testing.T) {
	page := read(t, "docs/runbook.md")
	reasons := read(t, "pkg/apis/v1alpha1/reasons.go")
	for _, match := range eventReason.FindAllStringSubmatch(page, -1) {
		if !strings.Contains(reasons, `"`+match[1]+`"`) {
			t.Errorf("the runbook names the Event %s", match[1])
		}
	}
	manifests := read(t, "config/300-chains-config.yaml") + read(t, "config/300-trusted-keys.yaml")
	for _, match := range configMap.FindAllStringSubmatch(page, -1) {
		if !strings.Contains(manifests, "name: "+match[1]+"\n") {
			t.Errorf("the runbook names the ConfigMap %s", match[1])
		}
	}
	for _, name := range []string{"runbook.md", "monitoring.md"} {
		for _, match := range link.FindAllStringSubmatch(read(t, "docs/"+name), -1) {
			target := match[1]
			if target == "" {
				target = name
			}
			if anchor := match[2]; anchor != "" && !anchors(read(t, "docs/"+target))[anchor] {
				t.Errorf("docs/%s: %s has no section #%s", name, target, anchor)
			}
		}
	}
}

// anchors returns the anchors that GitHub gives to the headings of a page.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(page) {
		if heading, is := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); is && strings.HasPrefix(line, "#") {
			text := noAnchorChar.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			all[strings.ReplaceAll(text, " ", "-")] = true
		}
	}
	return all
}
