// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	auditPrefix        = "trustedresources.audit."
	auditSinksKey      = auditPrefix + "sinks"
	auditFileKey       = auditPrefix + "file"
	auditMaxSizeKey    = auditPrefix + "file-max-size"
	auditMaxBackupsKey = auditPrefix + "file-max-backups"
	auditWebhookURLKey = auditPrefix + "webhook-url"
	auditOnFailureKey  = auditPrefix + "on-failure"
)

// The sinks of the audit log.
const (
	AuditNone    = "none"
	AuditStdout  = "stdout"
	AuditFile    = "file"
	AuditWebhook = "webhook"
)

// Values of the setting on-failure.
const (
	auditContinue = "continue"
	auditBlock    = "block"
)

// Audit has the settings of the audit log.
type Audit struct {
	// File is the absolute path of the file.
	File string
	// MaxSize is the size at which the file is rotated, in MiB.
	MaxSize int
	// MaxBackups is the number of rotated files that are kept; 0 keeps all.
	MaxBackups int
	WebhookURL string
	// Block asks to sign nothing that the file has no record of.
	Block bool

	sinks []string
}

// DefaultAuditFile is the file of the audit log. The Deployment has no volume there.
const DefaultAuditFile = "/var/log/trusted-resources/audit.log"

func defaultAudit() Audit {
	return Audit{File: DefaultAuditFile, MaxSize: 100, MaxBackups: 10, sinks: []string{AuditStdout}}
}

// Has reports whether records go to a sink.
func (a *Audit) Has(sink string) bool { return slices.Contains(a.sinks, sink) }

// Limits of the settings.
const (
	maxAuditSize    = 10_240
	maxAuditBackups = 10_000
	maxAuditPath    = 1024
)

// set applies one setting and returns what is wrong with the setting, or "".
func (a *Audit) set(key, value string) (problem string) {
	switch key {
	case auditSinksKey:
		a.sinks = commaList(value)
		if len(a.sinks) > 1 && slices.Contains(a.sinks, AuditNone) {
			return fmt.Sprintf("found %q with other sinks", AuditNone)
		}
		return someOf(a.sinks, AuditNone, AuditStdout, AuditFile, AuditWebhook)
	case auditFileKey:
		a.File = value
		return auditPath(value)
	case auditMaxSizeKey:
		return number(value, &a.MaxSize, 1, maxAuditSize)
	case auditMaxBackupsKey:
		return number(value, &a.MaxBackups, 0, maxAuditBackups)
	case auditWebhookURLKey:
		a.WebhookURL = value
		return auditURL(value)
	case auditOnFailureKey:
		a.Block = value == auditBlock
		return oneOf(value, auditContinue, auditBlock)
	}
	return "unknown key; remove it or correct its spelling"
}

// check returns what is wrong with the settings together, or nil.
func (a *Audit) check() error {
	switch {
	case a.Has(AuditWebhook) && a.WebhookURL == "":
		return fmt.Errorf("%s is missing: %s has %q; set it to the address that receives CloudEvents", auditWebhookURLKey, auditSinksKey, AuditWebhook)
	case a.Block && !a.Has(AuditFile):
		return fmt.Errorf("%s is %q, but %s has no %q: only a file confirms that it has a record; add the sink, or set %s to %q",
			auditOnFailureKey, auditBlock, auditSinksKey, AuditFile, auditOnFailureKey, auditContinue)
	}
	return nil
}

func auditPath(value string) (problem string) {
	if len(value) > maxAuditPath || !filepath.IsAbs(value) || filepath.Clean(value) != value || strings.ContainsRune(value, 0) {
		return fmt.Sprintf("found %q, expected the absolute path of a file, such as %s", shortened(value), DefaultAuditFile)
	}
	return ""
}

// auditURL does not quote the value, which can have a password.
func auditURL(value string) (problem string) {
	const expected = "expected a URL such as https://siem.example/events"
	u, err := url.Parse(value)
	switch {
	case err != nil || len(value) > maxAuditPath || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return "found no URL with https or http and a host, " + expected
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "found a user, a query or a fragment, which everybody who may read this ConfigMap can read; " + expected
	}
	return ""
}

func number(value string, to *int, least, most int) (problem string) {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return fmt.Sprintf("found %q, expected a number from %d to %d", shortened(value), least, most)
	}
	*to = n
	return ""
}
