// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"go.uber.org/zap"
	"k8s.io/utils/clock"
	"knative.dev/pkg/logging"
	"sigs.k8s.io/yaml"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/auditlog"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

const (
	activeLog, rotatedLog = "audit.log", "audit-2026-11-28T10-00-08.000.log"
	// openAttempt is an attempt without an outcome.
	openAttempt = "5f0c6d3e-0c2b-4b8e-9a51-7d1f0a6f2c11"
)

// auditFiles are an audit log in a directory.
type auditFiles struct {
	*fixture

	dir     string
	streams []string // of the processes that wrote the log, in their order
}

// writeAudit lets two processes write an audit log, one after the other. Each has a
// record audit.started, further records, and the checkpoint of its end.
func writeAudit(t *testing.T) *auditFiles {
	t.Helper()
	a := &auditFiles{fixture: &fixture{t: t, signingSecrets: t.TempDir()}, dir: t.TempDir()}
	a.publicKey, a.otherPublicKey = a.writeX509Key(a.signingSecrets), a.writeX509Key(t.TempDir())
	object := &audit.Object{Kind: "Task", Namespace: "ns", Name: "build"}
	intent := audit.Record{Type: audit.ResourceSigning, Object: object, Attempt: "an attempt with an outcome"}
	signed := audit.Record{Type: audit.ResourceSigned, Outcome: audit.Success, Object: object, Attempt: intent.Attempt}
	a.process(intent, signed)
	a.process(audit.Record{Type: audit.ResourceSigning, Object: object, Attempt: openAttempt})
	for _, line := range a.lines() {
		r, err := audit.Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(a.streams, r.Stream) {
			a.streams = append(a.streams, r.Stream)
		}
	}
	return a
}

// writeX509Key is writeKeyPair without a password, which takes long to check.
func (a *auditFiles) writeX509Key(dir string) (publicKey string) {
	a.t.Helper()
	secret, public, err := fixtures.X509Secret()
	pem, pemErr := cryptoutils.MarshalPublicKeyToPEM(public)
	publicKey = filepath.Join(dir, "public.pem")
	if err := errors.Join(err, pemErr, secret.Write(dir), os.WriteFile(publicKey, pem, 0o600)); err != nil {
		a.t.Fatal(err)
	}
	return publicKey
}

// process writes the records of one process.
func (a *auditFiles) process(records ...audit.Record) {
	a.t.Helper()
	ctx := logging.WithLogger(a.t.Context(), zap.NewNop().Sugar())
	log := auditlog.New(ctx, auditlog.Options{Reporter: noReporter{}, Clock: clock.RealClock{}, Key: func() (*keys.Key, error) {
		ring, signer := signingRing(ctx, a.signingSecrets, "")
		return ring.Active(signer)
	}})
	log.Configure(auditlog.Settings{File: auditlog.FileSettings{Path: a.path(activeLog), MaxSize: 1}})
	for _, r := range records {
		log.Append(r)
	}
	log.Close(a.t.Context())
}

type noReporter struct{}

func (noReporter) AuditRecords(string, string, int) {}
func (noReporter) AuditFailed(string, error)        {}

func (a *auditFiles) path(name string) string { return filepath.Join(a.dir, name) }

func (a *auditFiles) lines() []string {
	a.t.Helper()
	content, err := os.ReadFile(a.path(activeLog))
	if err != nil {
		a.t.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(content)))
}

func (a *auditFiles) write(name string, lines ...string) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), []byte(strings.Join(lines, "")), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// verify runs tkn-trust audit verify for all files, with each format. In the outputs, the
// streams are ONE and TWO, hashes are HASH, files have no directory, and columns have no width.
func (a *auditFiles) verify(wantCode int, flags ...string) (table string, report audit.Report) {
	a.t.Helper()
	files, err := filepath.Glob(a.path("audit*.log"))
	if err != nil {
		a.t.Fatal(err)
	}
	outputs := map[string]string{}
	for _, format := range []string{"table", "json", "yaml"} {
		stdout, stderr := a.run(wantCode, append(slices.Concat([]string{"audit", "verify", "-o", format}, flags), files...)...)
		if found := strings.Contains(stderr, errAuditFindings.Error()); found != (wantCode == Findings) {
			a.t.Errorf("got error %q with exit code %d", stderr, wantCode)
		}
		outputs[format] = a.normalised(stdout)
	}
	table = columns.ReplaceAllString(outputs["table"], "  ")
	if err := json.Unmarshal([]byte(outputs["json"]), &report); err != nil {
		a.t.Fatal(err)
	}
	var inYAML audit.Report
	if err := yaml.UnmarshalStrict([]byte(outputs["yaml"]), &inYAML); err != nil || !reflect.DeepEqual(inYAML, report) {
		a.t.Errorf("got %+v (error %v) in YAML, and %+v in JSON", inYAML, err, report)
	}
	return table, report
}

var (
	hashes  = regexp.MustCompile(`sha256:[0-9a-f]{64}`)
	columns = regexp.MustCompile(` {2,}`)
)

func (a *auditFiles) normalised(output string) string {
	names := strings.NewReplacer(a.dir+"/", "", a.streams[0], "ONE", a.streams[1], "TWO")
	return hashes.ReplaceAllString(names.Replace(output), "HASH")
}

func TestAuditVerify_AcceptsALog(t *testing.T) {
	a := writeAudit(t)
	table, report := a.verify(OK, "--key", a.otherPublicKey, "--key", a.publicKey, "--stopped")
	const open = "Without an outcome: Task ns/build, " + openAttempt + " (record 2 of TWO): not known; --kube-audit can tell\n"
	if want := "STREAM  RECORDS  CHECKPOINTS  SIGNED UP TO  END\n" +
		"ONE  1 to 4  1  3  shutdown\n" +
		"TWO  1 to 3  1  2  shutdown\n" + open + "7 records in 1 files: nothing was found\n"; table != want {
		t.Errorf("got\n%s\nwant\n%s", table, want)
	}
	if !report.Verified || report.Records != 7 || !slices.Equal(report.Files, []string{activeLog}) || len(report.Streams) != 2 ||
		len(report.Findings) > 0 || len(report.Intents) != 1 || report.Intents[0].Attempt != openAttempt {
		t.Errorf("got %+v", report)
	}
	if table, _ := a.verify(OK); !strings.Contains(table, "ONE  1 to 4  1  not checked (--key)  shutdown\n") {
		t.Errorf("without a key: got\n%s", table)
	}
}

// The output names the place of each problem, what was expected there, and what was found.
func TestAuditVerify_NamesProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(a *auditFiles, lines []string)
		want   audit.Finding // without its message
		line   string
	}{
		"removed": {
			func(a *auditFiles, l []string) { a.write(activeLog, slices.Delete(l, 1, 2)...) },
			audit.Finding{Problem: audit.Removed, File: activeLog, Line: 2, Stream: "ONE", Seq: 2, Expected: "2", Found: "3"},
			"removed: audit.log:2, stream ONE, record 2: record 2 was removed before record 3 (expected 2, found 3)",
		},
		"changed": {
			func(a *auditFiles, l []string) {
				l[1] = strings.Replace(l[1], "build", "other", 1)
				a.write(activeLog, l...)
			},
			audit.Finding{Problem: audit.Changed, File: activeLog, Line: 2, Stream: "ONE", Seq: 2, Expected: "HASH", Found: "HASH"},
			"changed: audit.log:2, stream ONE, record 2: the record has another hash than record 3 (audit.log:3) names (expected HASH, found HASH)",
		},
		"reordered": {
			func(a *auditFiles, l []string) { l[1], l[2] = l[2], l[1]; a.write(activeLog, l...) },
			audit.Finding{Problem: audit.Reordered, File: activeLog, Line: 3, Stream: "ONE", Seq: 2, Expected: "4", Found: "2"},
			"reordered: audit.log:3, stream ONE, record 2: the record comes after record 3 (audit.log:2) (expected 4, found 2)",
		},
		"duplicated": {
			func(a *auditFiles, l []string) { a.write(activeLog, slices.Insert(l, 2, l[1])...) },
			audit.Finding{Problem: audit.Duplicated, File: activeLog, Line: 3, Stream: "ONE", Seq: 2, Expected: "3", Found: "2"},
			"duplicated: audit.log:3, stream ONE, record 2: the record is there twice (expected 3, found 2)",
		},
		"end of a process removed": {
			func(a *auditFiles, l []string) { a.write(activeLog, slices.Delete(l, 3, 4)...) },
			audit.Finding{Problem: audit.Truncated, File: activeLog, Line: 3, Stream: "ONE", Seq: 3, Expected: "4", Found: "3"},
			"truncated: audit.log:3, stream ONE, record 3: the records 4 to 4 were removed from the end of the stream; audit.log:4 names them (expected 4, found 3)",
		},
		"end of the log removed": {
			func(a *auditFiles, l []string) { a.write(activeLog, l[:6]...) },
			audit.Finding{Problem: audit.Truncated, File: activeLog, Line: 6, Stream: "TWO", Seq: 2},
			"truncated: audit.log:6, stream TWO, record 2: the stream has no end: the controller runs, or was killed, or records after 2 were removed; compare with a copy (--expect-head)",
		},
		"files exchanged": {
			func(a *auditFiles, l []string) { a.write(rotatedLog, l[4:]...); a.write(activeLog, l[:4]...) },
			audit.Finding{Problem: audit.Swapped, File: activeLog, Expected: rotatedLog, Found: activeLog},
			"swapped: audit.log: the file has records that belong into " + rotatedLog + ": the names of rotated files have the times at which they were rotated " +
				"(expected " + rotatedLog + ", found audit.log)",
		},
		"a line damaged": {
			func(a *auditFiles, l []string) { l[1] = "{\n"; a.write(activeLog, l...) },
			audit.Finding{Problem: audit.Unreadable, File: activeLog, Line: 2},
			"unreadable: audit.log:2: the line is no record: expected a record in JSON: unexpected end of JSON input",
		},
		"written anew with another key": {
			func(a *auditFiles, _ []string) { a.publicKey = a.otherPublicKey },
			audit.Finding{Problem: audit.BadCheckpoint, File: activeLog, Line: 4, Stream: "ONE", Seq: 4},
			"checkpoint: audit.log:4, stream ONE, record 4: no trusted key signed the checkpoint (signed with HASH)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := writeAudit(t)
			tc.change(a, a.lines())
			table, report := a.verify(Findings, "--key", a.publicKey, "--stopped")
			if !strings.Contains(table, "\nFound: "+tc.line+"\n") || strings.Contains(table, "nothing was found") {
				t.Errorf("got\n%s\nwant a line\nFound: %s", table, tc.line)
			}
			if report.Verified || len(report.Findings) == 0 || report.FindingsInAll != len(report.Findings) {
				t.Fatalf("got %+v", report)
			}
			got := report.Findings[0]
			if got.Message == "" || !strings.Contains(tc.line, got.Message) {
				t.Errorf("got message %q, want one from %q", got.Message, tc.line)
			}
			if got.Message = ""; got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// Notes do not make the command fail.
func TestAuditVerify_PrintsNotes(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(a *auditFiles, lines []string)
		line   string
	}{
		"the controller runs": {
			func(a *auditFiles, l []string) { a.write(activeLog, l[:6]...) },
			"open-end: audit.log:6, stream TWO, record 2: the stream has no end: the controller runs, or was killed, or records after 2 were removed; compare with a copy (--expect-head)",
		},
		"the older file was deleted": {
			func(a *auditFiles, l []string) { a.write(activeLog, l[4:]...) },
			"before: audit.log:1, stream ONE, record 4: the records of the stream up to 4 are in none of the files",
		},
		"a process was killed while it wrote": {
			func(a *auditFiles, l []string) { a.write(activeLog, slices.Insert(l, 4, "{\n")...) },
			"interrupted: audit.log:5: a process was killed while it wrote the line; stream TWO continues",
		},
	} {
		a := writeAudit(t)
		tc.change(a, a.lines())
		if table, report := a.verify(OK, "--key", a.publicKey); !strings.Contains(table, "\nNote: "+tc.line+"\n") || len(report.Notes) != 1 {
			t.Errorf("%s: got\n%s\nwant a line\nNote: %s", name, table, tc.line)
		}
	}
}

// A record of another place shows that the newest records were removed or changed.
func TestAuditVerify_ExpectsARecord(t *testing.T) {
	a := writeAudit(t)
	lines := a.lines()
	newest := audit.HashOf([]byte(strings.TrimSuffix(lines[6], "\n"))).String()
	a.verify(OK, "--expect-head", "3:"+newest)
	for name, expected := range map[string]string{"another number": "4:" + newest, "another hash": "3:" + audit.HashOf(nil).String()} {
		seq, _, _ := strings.Cut(expected, ":")
		want := fmt.Sprintf("Found: truncated: record %s: the files have no record %s with the expected hash: the end was removed or changed (expected HASH)\n", seq, seq)
		if table, _ := a.verify(Findings, "--expect-head", expected); !strings.Contains(table, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, table, want)
		}
	}
}

// The audit log of the API server tells what became of an attempt.
func TestAuditVerify_ResolvesIntents(t *testing.T) {
	for code, want := range map[int]string{
		http.StatusOK: "the API server stored the signature", http.StatusConflict: "the API server refused the signature", 0: "the API server has no such request",
	} {
		a := writeAudit(t)
		event := fmt.Sprintf(`{"auditID":%q,"stage":"ResponseComplete","responseStatus":{"code":%d}}`, openAttempt, code)
		if code == 0 {
			event = "{}"
		}
		a.write("kube.json", event+"\n")
		table, _ := a.verify(OK, "--kube-audit", a.path("kube.json"))
		if want := "Without an outcome: Task ns/build, " + openAttempt + " (record 2 of TWO): " + want + "\n"; !strings.Contains(table, want) {
			t.Errorf("got\n%s\nwant\n%s", table, want)
		}
	}
}

func TestAuditVerify_RefusesWrongUsage(t *testing.T) {
	a := writeAudit(t)
	file, missing := a.path(activeLog), a.path("missing")
	a.write("garbage", "garbage\nmore\n")
	garbage := a.path("garbage")
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"no file":               {nil, []string{"requires at least 1 arg"}},
		"a missing file":        {[]string{file, missing}, []string{missing, "no such file"}},
		"a directory":           {[]string{a.dir}, []string{a.dir, "is a directory"}},
		"another format":        {[]string{"-o", "xml", file}, []string{`"xml"`, "table, json, yaml"}},
		"a missing key":         {[]string{"--key", missing, file}, []string{missing}},
		"no key":                {[]string{"--key", garbage, file}, []string{garbage}},
		"a head without hash":   {[]string{"--expect-head", "3", file}, []string{`"3"`, "SEQ:HASH"}},
		"a head without number": {[]string{"--expect-head", audit.HashOf(nil).String(), file}, []string{"SEQ:HASH"}},
		"a short hash":          {[]string{"--expect-head", "3:sha256:91", file}, []string{"SEQ:HASH"}},
		"no log of the API server": {
			[]string{"--kube-audit", missing, file}, []string{missing},
		},
		"another log": {[]string{"--kube-audit", garbage, file}, []string{garbage, "line 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr := a.run(Failed, append([]string{"audit", "verify"}, tc.args...)...)
			if stdout != "" {
				t.Errorf("got output %q", stdout)
			}
			for _, want := range append(tc.want, "Error: ") {
				if !strings.Contains(stderr, want) {
					t.Errorf("got error %q, want %q in it", stderr, want)
				}
			}
		})
	}
}

// The help names the exit codes, and each flag that docs/reference.md names.
func TestAuditVerify_HasHelp(t *testing.T) {
	f := &fixture{t: t}
	if help, _ := f.run(OK, "audit", "--help"); !strings.Contains(help, "verify ") || !strings.Contains(help, "Verify the audit log of the controller") {
		t.Errorf("got %s", help)
	}
	help, _ := f.run(OK, "audit", "verify", "--help")
	wants := []string{"verify FILE...", "0  if nothing was found", "1  if something was found", "2  if the command could not verify", "table, json, yaml"}
	reference, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, _ := strings.Cut(string(reference), "| `tkn-trust audit verify FILE...` |")
	row, _, _ = strings.Cut(row, "\n")
	flags := regexp.MustCompile(`--[a-z-]+`).FindAllString(row, -1)
	if len(flags) == 0 {
		t.Error("docs/reference.md names no flags")
	}
	for _, want := range append(wants, flags...) {
		if !strings.Contains(help, want) {
			t.Errorf("got %s\nwant %q in it", help, want)
		}
	}
}
