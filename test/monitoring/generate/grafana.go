// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
)

// schemaVersion is that of the classic dashboard model, which all releases of Grafana since
// 10.1 read. Later ones migrate it when they load it.
const schemaVersion = 39

// A dashboard has rows of panels below each other.
type dashboard struct {
	uid, title, description string
	rows                    []row
}

type row struct {
	title  string
	panels []panel
}

// panelType is the identifier of a panel plugin that is a part of Grafana.
type panelType string

const (
	stat   panelType = "stat"
	graph  panelType = "timeseries"
	table  panelType = "table"
	bar    panelType = "bargauge"
	height           = 8 // of all panels, in units of Grafana's grid
	grid             = 24
)

// A panel shows the results of its queries.
type panel struct {
	panelType
	title, description string
	// unit is one of Grafana's: https://github.com/grafana/grafana/blob/main/packages/grafana-data/src/valueFormats/categories.ts
	unit    string
	width   int // of the 24 columns
	queries []query
	// limits colour a value that is at least as large, in ascending order.
	limits []limit
}

// A query is an expression in PromQL, and the name of each series of the result.
type query struct{ expr, legend string }

type limit struct {
	from  float64
	color string
}

// The types below are the parts of Grafana's dashboard model that we use. A test validates the
// result against the JSON schema of the model.
type (
	object       = map[string]any
	grafanaPanel struct {
		ID          int          `json:"id"`
		Type        string       `json:"type"`
		Title       string       `json:"title"`
		Description string       `json:"description,omitempty"`
		GridPos     gridPos      `json:"gridPos"`
		Datasource  *datasource  `json:"datasource,omitempty"`
		FieldConfig *fieldSource `json:"fieldConfig,omitempty"`
		Options     object       `json:"options,omitempty"`
		Targets     []target     `json:"targets,omitempty"`
		Collapsed   *bool        `json:"collapsed,omitempty"` // of a row
		Panels      *[]object    `json:"panels,omitempty"`    // of a row that is collapsed
	}
	gridPos struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	datasource struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	fieldSource struct {
		Defaults  fieldDefaults `json:"defaults"`
		Overrides []object      `json:"overrides"`
	}
	fieldDefaults struct {
		Unit       string     `json:"unit,omitempty"`
		Min        *float64   `json:"min,omitempty"`
		NoValue    string     `json:"noValue,omitempty"`
		Thresholds thresholds `json:"thresholds"`
	}
	thresholds struct {
		Mode  string `json:"mode"`
		Steps []step `json:"steps"`
	}
	step struct {
		Color string   `json:"color"`
		Value *float64 `json:"value"` // null is below all others
	}
	target struct {
		RefID        string     `json:"refId"`
		Datasource   datasource `json:"datasource"`
		Expr         string     `json:"expr"`
		LegendFormat string     `json:"legendFormat,omitempty"`
		Instant      bool       `json:"instant"`
		Range        bool       `json:"range"`
		Format       string     `json:"format"`
	}
)

// prometheus is the data source that the variable of the dashboard selects.
var prometheus = datasource{Type: "prometheus", UID: "${datasource}"}

func (d dashboard) json() ([]byte, error) {
	panels, err := d.panels()
	if err != nil {
		return nil, err
	}
	content, err := json.MarshalIndent(object{
		"uid":           d.uid,
		"title":         d.title,
		"description":   d.description,
		"tags":          []string{"tekton", "trusted-resources"},
		"schemaVersion": schemaVersion,
		"editable":      true,
		"graphTooltip":  1, // the cursors of all panels are at the same time
		"refresh":       "1m",
		"time":          object{"from": "now-24h", "to": "now"},
		"timezone":      "browser",
		"annotations":   object{"list": []object{}},
		"links":         []object{},
		"templating": object{"list": []object{{
			"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
			"hide": 0, "includeAll": false, "multi": false, "refresh": 1, "regex": "", "options": []object{},
		}}},
		"panels": panels,
	}, "", "  ")
	return append(content, '\n'), err
}

// panels places the panels of each row from left to right.
func (d dashboard) panels() (placed []grafanaPanel, err error) {
	y := 0
	for _, r := range d.rows {
		open := false
		placed = append(placed, grafanaPanel{
			ID: len(placed) + 1, Type: "row", Title: r.title, GridPos: gridPos{H: 1, W: grid, Y: y}, Collapsed: &open, Panels: &[]object{},
		})
		y++
		x := 0
		for _, p := range r.panels {
			if x+p.width > grid {
				x, y = 0, y+height
			}
			placed = append(placed, p.grafana(len(placed)+1, gridPos{H: height, W: p.width, X: x, Y: y}))
			x += p.width
		}
		if x == 0 {
			return nil, fmt.Errorf("the row %s has no panels", r.title)
		}
		y += height
	}
	return placed, nil
}

func (p panel) grafana(id int, pos gridPos) grafanaPanel {
	zero := 0.0
	made := grafanaPanel{
		ID: id, Type: string(p.panelType), Title: p.title, Description: p.description, GridPos: pos, Datasource: &prometheus,
		FieldConfig: &fieldSource{
			Defaults:  fieldDefaults{Unit: p.unit, Min: &zero, NoValue: "none", Thresholds: p.thresholds()},
			Overrides: []object{},
		},
		Options: p.options(),
	}
	for i, q := range p.queries {
		now := p.panelType != graph
		t := target{RefID: string(rune('A' + i)), Datasource: prometheus, Expr: q.expr, LegendFormat: q.legend, Instant: now, Range: !now, Format: "time_series"}
		if p.panelType == table {
			t.Format, t.LegendFormat = "table", ""
		}
		made.Targets = append(made.Targets, t)
	}
	return made
}

func (p panel) thresholds() thresholds {
	base := "green"
	if len(p.limits) == 0 {
		base = "blue"
	}
	made := thresholds{Mode: "absolute", Steps: []step{{Color: base}}}
	for _, l := range p.limits {
		if l.from == 0 { // the color of everything below the other limits
			made.Steps[0].Color = l.color
			continue
		}
		made.Steps = append(made.Steps, step{Color: l.color, Value: &l.from})
	}
	return made
}

func (p panel) options() object {
	last := object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}
	switch p.panelType {
	case stat:
		return object{"colorMode": "value", "graphMode": "none", "reduceOptions": last}
	case bar:
		return object{"displayMode": "basic", "orientation": "horizontal", "reduceOptions": last}
	case graph:
		return object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		}
	case table:
		return object{"showHeader": true}
	}
	return nil
}
