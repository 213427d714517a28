// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/cli"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// auditEnv has a controller that writes the audit log to a file.
type auditEnv struct {
	*env

	path string
}

// toAuditFile is the configuration that signs all kinds and writes the audit log to a file.
func toAuditFile(path string, more map[string]string) map[string]string {
	return with(with(signAll, map[string]string{
		"trustedresources.audit.sinks": "file", "trustedresources.audit.file": path, "trustedresources.audit.file-max-size": "1",
	}), more)
}

func startAudited(t *testing.T) *auditEnv {
	t.Helper()
	e := newEnv(t)
	path := filepath.Join(t.TempDir(), "audit.log")
	e.configure(toAuditFile(path, nil))
	// Without leases, the process works as soon as it has started.
	e.controller = e.addReplicaWithEnv(inStatefulSet(0), "controller")
	return &auditEnv{e, path}
}

// files returns the rotated files and the one that is written to.
func (e *auditEnv) files() []string {
	e.t.Helper()
	files, err := filepath.Glob(strings.TrimSuffix(e.path, ".log") + "*.log")
	e.check(err)
	return files
}

// records returns the records of all files. The last line of a live file can be incomplete.
func (e *auditEnv) records() (all []*audit.Record) {
	e.t.Helper()
	for _, file := range e.files() {
		content, err := os.ReadFile(file)
		e.check(err)
		for line := range bytes.Lines(content) {
			if r, err := audit.Parse(bytes.TrimSuffix(line, []byte("\n"))); err == nil {
				all = append(all, r)
			}
		}
	}
	return all
}

// verify runs tkn-trust audit verify, and returns its report and exit code.
func (e *auditEnv) verify(t *testing.T, files []string, flags ...string) (report audit.Report, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args := append([]string{"audit", "verify", "-o", "json", "--key", filepath.Join(e.secretsDir, fixtures.CosignPub)}, flags...)
	code = cli.New(&stdout, &stderr).Run(t.Context(), append(args, files...))
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
		t.Fatalf("tkn-trust %v: %v: %s", args, err, stderr.String())
	}
	return report, code
}

// signaturePatches returns the audit IDs of the successful patches of the controller in a
// namespace, from the audit log of the API server.
func (e *auditEnv) signaturePatches(namespace string) (ids []string) {
	e.t.Helper()
	for _, event := range e.controllerWrites(namespace) {
		if event.Verb == "patch" && event.ObjectRef.Resource == "tasks" {
			ids = append(ids, string(event.AuditID))
		}
	}
	return ids
}

// expectEachPatchExplained fails the test for each signature that the log does not know.
func (e *auditEnv) expectEachPatchExplained(namespace string, report *audit.Report) {
	e.t.Helper()
	known := map[string]bool{}
	for _, r := range e.records() {
		if r.Type == audit.ResourceSigned {
			known[r.Attempt] = true
		}
	}
	for _, i := range report.Intents {
		known[i.Attempt] = i.Resolution == audit.PatchStored
	}
	patches := e.signaturePatches(namespace)
	if len(patches) == 0 {
		e.t.Error("the API server's audit log has no signature")
	}
	for _, id := range patches {
		if !known[id] {
			e.t.Errorf("the API server stored a signature with audit ID %s, of which the audit log has no record", id)
		}
	}
}

// tamperings are changes of files. Each gets the lines of the oldest file and of the newest.
var tamperings = map[audit.Problem]func(oldest, newest []string) (changedOldest, changedNewest []string){
	audit.Removed: func(o, n []string) ([]string, []string) { return slices.Delete(o, 100, 101), n },
	audit.Changed: func(o, n []string) ([]string, []string) {
		o[100] = strings.Replace(o[100], `"namespace":"`, `"namespace":"x`, 1)
		return o, n
	},
	audit.Reordered:  func(o, n []string) ([]string, []string) { o[100], o[101] = o[101], o[100]; return o, n },
	audit.Duplicated: func(o, n []string) ([]string, []string) { return slices.Insert(o, 102, o[100]), n },
	audit.Truncated:  func(o, n []string) ([]string, []string) { return o, n[:len(n)-1] },
	audit.Swapped:    func(o, n []string) ([]string, []string) { return n, o },
}

// expectTamperingFound changes copies of the files, and fails the test if the command does
// not say what was changed, and where.
func (e *auditEnv) expectTamperingFound(t *testing.T) {
	for _, problem := range slices.Sorted(maps.Keys(tamperings)) {
		t.Run(string(problem), func(t *testing.T) {
			copies := e.copies(t)
			oldest, newest := copies[0], copies[len(copies)-1]
			first, last := tamperings[problem](readLines(t, oldest), readLines(t, newest))
			writeLines(t, oldest, first)
			writeLines(t, newest, last)
			report, code := e.verify(t, copies, "--stopped")
			if code != cli.Findings {
				t.Errorf("exit code %d, want %d", code, cli.Findings)
			}
			named := func(f audit.Finding) bool {
				return f.Problem == problem && f.File != "" && (problem == audit.Swapped || f.Line > 0 && f.Stream != "" && f.Seq > 0)
			}
			if !slices.ContainsFunc(report.Findings, named) {
				t.Errorf("got findings %+v, want one about what was %s", report.Findings, problem)
			}
		})
	}
}

// copies copies the files into a directory of the test.
func (e *auditEnv) copies(t *testing.T) (copies []string) {
	t.Helper()
	dir := t.TempDir()
	for _, file := range e.files() {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, to)
	}
	return copies
}

func readLines(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
}

func writeLines(t *testing.T, file string, lines []string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitGrown waits until the log has so many more records than before.
func (e *auditEnv) waitGrown(before int64, more int64) {
	e.t.Helper()
	e.eventually(afterFailover, func() error {
		size := e.size()
		if size < before+more {
			return fmt.Errorf("the audit log has grown by %d bytes, expected %d", size-before, more)
		}
		return nil
	})
}

// size returns the size of all files.
func (e *auditEnv) size() (size int64) {
	e.t.Helper()
	for _, file := range e.files() {
		if info, err := os.Stat(file); err == nil { // otherwise it was rotated meanwhile
			size += info.Size()
		}
	}
	return size
}
