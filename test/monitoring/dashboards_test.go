// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func grafanaSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("testdata/grafana-dashboard-13.2.3.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// Each dashboard has the format of Grafana's model, and a dashboard with a misspelt field has not.
func TestDashboards_HaveTheFormatOfGrafana(t *testing.T) {
	schema := grafanaSchema(t)
	for file := range dashboards(t) {
		content := read(t, file)
		if err := validate(schema, content); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for field, misspelt := range map[string]string{
			`"schemaVersion": 39`: `"schemaVersoin": 39`,
			`"gridPos"`:           `"gridpos"`,
			`"fieldConfig"`:       `"fieldconfig"`,
			`"thresholds"`:        `"treshold"`,
			`"multi": false`:      `"mutli": false`,
			`"includeAll": false`: `"includeAll": "no"`,
		} {
			broken := strings.Replace(content, field, misspelt, 1)
			if broken == content {
				t.Errorf("%s has no %s", file, field)
			}
			if validate(schema, broken) == nil {
				t.Errorf("%s is accepted with %s", file, misspelt)
			}
		}
	}
}

func validate(schema *jsonschema.Schema, content string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(content))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// A dashboard that was exported for grafana.com has __inputs, which provisioning does not replace.
// The data source is a variable, so that the dashboard works with each.
func TestDashboards_WorkWithAnyDataSource(t *testing.T) {
	for file := range dashboards(t) {
		var content any
		if err := json.Unmarshal([]byte(read(t, file)), &content); err != nil {
			t.Fatal(err)
		}
		walk(content, func(key string, value any) {
			switch source, _ := value.(map[string]any); {
			case key == "__inputs":
				t.Errorf("%s has __inputs", file)
			case key == "datasource" && source["uid"] != "${datasource}":
				t.Errorf("%s: the data source of a panel is %v, want the variable", file, value)
			}
		})
		if !strings.Contains(read(t, file), `"name": "datasource"`) {
			t.Errorf("%s has no variable datasource", file)
		}
	}
}

func walk(value any, visit func(key string, value any)) {
	switch value := value.(type) {
	case map[string]any:
		for key, field := range value {
			visit(key, field)
			walk(field, visit)
		}
	case []any:
		for _, element := range value {
			walk(element, visit)
		}
	}
}

// Panels have different IDs, are beside each other, and each but a row has an expression that
// Prometheus can parse.
func TestDashboards_ArePlacedAndParsed(t *testing.T) {
	uids := map[string]string{}
	for file, d := range dashboards(t) {
		if other, found := uids[d.UID]; found || d.UID == "" || d.UID+".json" != filepath.Base(file) {
			t.Errorf("%s has the uid %q, and %q too", file, d.UID, other)
		}
		uids[d.UID] = file
		checkPlaces(t, file, d)
		ids := map[any]bool{}
		for _, panel := range d.Panels {
			if ids[panel.ID] {
				t.Errorf("%s: two panels have the ID %v", file, panel.ID)
			}
			ids[panel.ID] = true
			if (panel.Type == "row") != (len(panel.Targets) == 0) {
				t.Errorf("%s: %v has %d queries", file, panel.Title, len(panel.Targets))
			}
		}
	}
	for where, expression := range expressions(t) {
		if _, err := promQL.ParseExpr(expression); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

// checkPlaces finds panels that cover each other, or that are not on the grid of 24 columns.
func checkPlaces(t *testing.T, file string, d dashboard) {
	t.Helper()
	cells := map[[2]int]any{}
	for _, panel := range d.Panels {
		if panel.GridPos.X+panel.GridPos.W > 24 || panel.GridPos.W == 0 || panel.GridPos.H == 0 {
			t.Errorf("%s: %v is at %+v", file, panel.Title, panel.GridPos)
		}
		for x := range panel.GridPos.W {
			for y := range panel.GridPos.H {
				cell := [2]int{panel.GridPos.X + x, panel.GridPos.Y + y}
				if other, found := cells[cell]; found {
					t.Fatalf("%s: %v is on top of %v", file, panel.Title, other)
				}
				cells[cell] = panel.Title
			}
		}
	}
}

// The files are those that "make generate" writes.
func TestGenerated_IsCurrent(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(read(t, "config/monitoring/rules.yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	generate := exec.CommandContext(t.Context(), "go", "run", "./generate", "-dir", dir)
	if out, err := generate.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(file); !bytes.Equal(content, []byte(read(t, "config/monitoring/"+name))) {
			t.Errorf("config/monitoring/%s is old: run make generate", name)
		}
	}
}
