// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse_ReadsAudit(t *testing.T) {
	long := "/" + strings.Repeat("x", maxAuditPath-1)
	for name, tc := range map[string]struct {
		data map[string]string
		want func(*Audit) // changes the defaults
	}{
		"defaults": {nil, func(*Audit) {}},
		"no sink":  {map[string]string{"trustedresources.audit.sinks": "none"}, func(a *Audit) { a.sinks = []string{AuditNone} }},
		"all sinks": {
			map[string]string{"trustedresources.audit.sinks": "webhook, stdout,file", "trustedresources.audit.webhook-url": "https://siem.example/events"},
			func(a *Audit) {
				a.sinks, a.WebhookURL = []string{AuditWebhook, AuditStdout, AuditFile}, "https://siem.example/events"
			},
		},
		"plain HTTP, for a sink that is off": {
			map[string]string{"trustedresources.audit.webhook-url": "http://siem.example:8080"},
			func(a *Audit) { a.WebhookURL = "http://siem.example:8080" },
		},
		"a file":      {map[string]string{"trustedresources.audit.file": "/data/audit.log"}, func(a *Audit) { a.File = "/data/audit.log" }},
		"a long path": {map[string]string{"trustedresources.audit.file": long}, func(a *Audit) { a.File = long }},
		"least numbers": {
			map[string]string{"trustedresources.audit.file-max-size": "1", "trustedresources.audit.file-max-backups": "0"},
			func(a *Audit) { a.MaxSize, a.MaxBackups = 1, 0 },
		},
		"greatest numbers": {
			map[string]string{"trustedresources.audit.file-max-size": "10240", "trustedresources.audit.file-max-backups": "10000"},
			func(a *Audit) { a.MaxSize, a.MaxBackups = 10240, 10000 },
		},
		"block": {
			map[string]string{"trustedresources.audit.sinks": "file", "trustedresources.audit.on-failure": "block"},
			func(a *Audit) { a.sinks, a.Block = []string{AuditFile}, true },
		},
		"continue": {map[string]string{"trustedresources.audit.on-failure": "continue"}, func(*Audit) {}},
	} {
		t.Run(name, func(t *testing.T) {
			want := Audit{File: "/var/log/trusted-resources/audit.log", MaxSize: 100, MaxBackups: 10, sinks: []string{AuditStdout}}
			tc.want(&want)
			if got := parse(t, tc.data).Audit; !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestParse_RejectsInvalidAudit(t *testing.T) {
	const prefix = "trustedresources.audit."
	for setting, values := range map[string]map[string][]string{ // what the errors say
		"sinks": {
			"":              {`""`, "none, stdout, file, webhook"},
			"syslog":        {`"syslog"`},
			"File":          {`"File"`},
			"stdout,":       {`""`},
			"none,stdout":   {`"none" with other sinks`},
			"stdout,none":   {`"none" with other sinks`},
			"stdout,stdout": {`"stdout" twice`},
			"webhook":       {"trustedresources.audit.webhook-url is missing"},
		},
		"file": {
			"":                               {`""`, DefaultAuditFile},
			"audit.log":                      {`"audit.log"`},
			"./audit.log":                    {`"./audit.log"`},
			"/var/log/../../etc/passwd":      {`"/var/log/../../etc/passwd"`},
			"/var/log/":                      {`"/var/log/"`},
			"/var/log/a\x00b":                {DefaultAuditFile},
			"/" + strings.Repeat("x", 1<<20): {"xxx…"},
		},
		"file-max-size": {
			"": {`""`}, "0": {`"0"`, "from 1 to 10240"}, "10241": {`"10241"`}, "-1": {`"-1"`}, "1.5": {`"1.5"`}, "100Mi": {`"100Mi"`},
			strings.Repeat("9", 1000): {"999…"},
		},
		"file-max-backups": {"-1": {`"-1"`, "from 0 to 10000"}, "10001": {`"10001"`}, "all": {`"all"`}},
		"webhook-url": {
			"":                                 {"https or http", "https://siem.example/events"},
			"siem.example":                     {"https or http"},
			"/events":                          {"https or http"},
			"ftp://siem.example":               {"https or http"},
			"https://":                         {"a host"},
			"https://:443/events":              {"a host"},
			"https://siem.example/\x7f":        {"https or http"},
			"https://siem.example/%zz":         {"https or http"},
			"https://s3cr3t@siem.example":      {"found a user"},
			"https://user:s3cr3t@siem.example": {"found a user"},
			"https://siem.example/?key=s3cr3t": {"a query"},
			"https://siem.example/#s3cr3t":     {"a fragment"},
			"https://siem.example/" + strings.Repeat("x", 1024): {"https or http"},
		},
		"on-failure": {
			"": {`""`, "continue, block"}, "stop": {`"stop"`}, "Block": {`"Block"`},
			"block": {"trustedresources.audit.sinks has no", "add the sink"},
		},
		"level": {"debug": {"unknown key"}},
	} {
		for value, want := range values {
			t.Run(setting+" "+shortened(value), func(t *testing.T) { expectAuditRefused(t, prefix+setting, value, want) })
		}
	}
}

// expectAuditRefused requires that the error names the setting and has texts.
func expectAuditRefused(t *testing.T, setting, value string, texts []string) {
	t.Helper()
	_, err := Parse(map[string]string{setting: value})
	if err == nil {
		t.Fatal("was accepted")
	}
	for _, text := range append(texts, setting) {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
	if len(err.Error()) > 300 || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("%q is too long, or has a password", err)
	}
}

func TestParse_NamesEachInvalidAuditSetting(t *testing.T) {
	expectRefused(t, map[string]string{"trustedresources.audit.sinks": "stdout,none", "trustedresources.audit.file-max-size": "0"},
		[]string{"trustedresources.audit.sinks", "trustedresources.audit.file-max-size"})
}
