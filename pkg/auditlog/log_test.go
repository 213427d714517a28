// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// reports counts what happens to records.
type reports struct {
	mu     sync.Mutex
	counts map[string]int
	errs   []error
}

func (r *reports) AuditRecords(sink, outcome string, records int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[sink+" "+outcome] += records
}

func (r *reports) AuditFailed(_ string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (r *reports) count(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[name]
}

func newLog(t testing.TB) (*Log, *reports) {
	t.Helper()
	r := &reports{counts: map[string]int{}}
	l := New(t.Context(), Options{
		Version: "v0", Host: "test", Actor: "me", Reporter: r, Clock: clock.RealClock{},
		Key: func() (*keys.Key, error) { return nil, keys.ErrNoKey },
	})
	t.Cleanup(func() { l.Close(context.Background()) })
	return l, r
}

func toFile(path string) Settings {
	return Settings{File: FileSettings{Path: path, MaxSize: 1, MaxBackups: 10}}
}

func record(name string) audit.Record {
	return audit.Record{Type: audit.ResourceSigned, Outcome: audit.Success, Object: &audit.Object{Kind: "Task", Name: name}}
}

// records returns the records of a file, and fails if one does not follow the one before.
func records(t *testing.T, path string) []*audit.Record {
	t.Helper()
	content, err := os.ReadFile(path) //nolint:gosec // a file of this test
	if err != nil {
		t.Fatal(err)
	}
	var all []*audit.Record
	var before string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		r, err := audit.Parse([]byte(line))
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if n := len(all); n > 0 && all[n-1].Stream == r.Stream && all[n-1].Seq+1 == r.Seq && r.Prev != audit.HashOf([]byte(before)).String() {
			t.Errorf("record %d does not have the hash of the line before", r.Seq)
		}
		all, before = append(all, r), line
	}
	return all
}

func TestLog_WriteReturnsWhenTheFileHasTheRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, _ := newLog(t)
	l.Configure(toFile(path))
	l.Append(record("a"))
	if err := l.Write(t.Context(), record("b")); err != nil {
		t.Fatal(err)
	}
	all := records(t, path)
	if len(all) != 3 || all[0].Type != audit.Started || all[2].Object.Name != "b" || all[2].Actor.User != "me" {
		t.Errorf("got %d records, want the start, a and b", len(all))
	}
	l.Close(t.Context())
	if last := records(t, path)[3]; last.Checkpoint == nil || last.Checkpoint.Reason != audit.Shutdown || last.Checkpoint.Head.Seq != 3 {
		t.Errorf("got %+v, want the last checkpoint about record 3", last)
	}
}

func TestLog_ContinuesAfterAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, _ := newLog(t)
	l.Configure(toFile(path))
	l.Close(t.Context())
	before := records(t, path)
	content, err := os.ReadFile(path) //nolint:gosec // a file of this test
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(content, `{"logger":"aud`...), 0o600); err != nil { //nolint:gosec // a file of this test
		t.Fatal(err)
	}
	next, _ := newLog(t)
	next.Configure(toFile(path))
	next.Close(t.Context())
	content, err = os.ReadFile(path) //nolint:gosec // a file of this test
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(content), `{"logger":"aud`+"\n")
	if !found {
		t.Fatal("the interrupted line was not ended")
	}
	line, _, _ := strings.Cut(after, "\n")
	r, err := audit.Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	last := before[len(before)-1]
	if p := r.Start.Previous; p == nil || p.Stream != last.Stream || p.Seq != last.Seq {
		t.Errorf("the new stream begins with %+v, want the last record of the old one", r.Start)
	}
}

func TestLog_RotatesAndChecks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, _ := newLog(t)
	l.Configure(toFile(path))
	long := record("long")
	long.Why = &audit.Why{Message: strings.Repeat("x", 2000)}
	for range 1200 {
		if err := l.Write(t.Context(), long); err != nil {
			t.Fatal(err)
		}
	}
	l.Close(t.Context())
	rotated, err := filepath.Glob(strings.TrimSuffix(path, ".log") + "-*.log")
	if err != nil || len(rotated) != 2 {
		t.Fatalf("got rotated files %v and error %v, want 2 files", rotated, err)
	}
	reasons := map[audit.CheckpointReason]int{}
	total := 0
	for _, file := range append(rotated, path) {
		info, err := os.Stat(file)
		if err != nil || info.Size() > 1<<20 {
			t.Errorf("%s has %d bytes, want at most 1 MiB", file, info.Size())
		}
		all := records(t, file)
		total += len(all)
		for _, r := range all {
			if r.Checkpoint != nil {
				reasons[r.Checkpoint.Reason]++
				if r.Checkpoint.Problem == "" {
					t.Error("a checkpoint without a key names no problem")
				}
			}
		}
	}
	if reasons[audit.FileRotated] == 0 || reasons[audit.Shutdown] != 1 || total < 1202 {
		t.Errorf("got checkpoints %v and %d records", reasons, total)
	}
}

func TestLog_KeepsAsManyFilesAsTheSettingsSay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, _ := newLog(t)
	long := record("long")
	long.Why = &audit.Why{Message: strings.Repeat("1", 2000)}
	for _, step := range []struct{ files, kept int }{{4, 2}, {1, 1}} {
		settings := toFile(path)
		settings.File.MaxBackups = step.kept
		l.Configure(settings)
		for range step.files {
			for range 1 << 20 / len(long.Why.Message) { // fills a file
				l.Append(long)
			}
			if err := l.Write(t.Context(), long); err != nil {
				t.Fatal(err)
			}
		}
		await(t, func() bool {
			rotated, err := filepath.Glob(strings.TrimSuffix(path, ".log") + "-*.log")
			return err == nil && len(rotated) == step.kept
		})
	}
	l.Close(t.Context())
}

func TestLog_BlocksOrContinuesWithoutADisk(t *testing.T) {
	for name, block := range map[string]bool{"continue": false, "block": true} {
		t.Run(name, func(t *testing.T) { loseAndResume(t, block) })
	}
}

// loseAndResume writes records to a full disk, and then to one that has space.
func loseAndResume(t *testing.T, block bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	l, r := newLog(t)
	settings := toFile(path)
	settings.Block = block
	l.Configure(settings)
	for range 3 {
		if err := l.Write(t.Context(), record("a")); errors.Is(err, audit.ErrNotWritten) != block {
			t.Fatalf("got error %v", err)
		}
	}
	if r.count("file failed")+r.count("file dropped") < 3 || r.count("file written") > 0 {
		t.Errorf("counted %v", r.counts)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return r.count("file written") > 0 })
	if err := l.Write(t.Context(), record("b")); err != nil {
		t.Fatal(err)
	}
	all := records(t, path)
	gap := all[0].Gap
	if gap == nil || gap.First != 1 || gap.Lost < 4 || gap.First+gap.Lost != all[0].Seq {
		t.Fatalf("the file begins with %+v, want a gap with 4 records", all[0])
	}
	if all[len(all)-1].Object.Name != "b" {
		t.Error("the record after the gap is missing")
	}
}

func TestLog_RefusesAFileOfAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	first, _ := newLog(t)
	first.Configure(toFile(path))
	second, r := newLog(t)
	second.Configure(toFile(path))
	if len(r.errs) != 1 || !strings.Contains(r.errs[0].Error(), "another process") {
		t.Errorf("got errors %v, want one about another process", r.errs)
	}
}

func TestLog_ChangesSinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l, _ := newLog(t)
	l.Append(record("before")) // there is no sink yet
	l.Configure(toFile(path))
	l.Configure(Settings{})
	l.Append(record("off"))
	l.Configure(toFile(path))
	l.Close(t.Context())
	all := records(t, path)
	if len(all) != 3 || all[1].Start == nil || all[1].Start.Previous == nil || all[1].Start.Previous.Seq != 1 || all[1].Stream != all[0].Stream {
		t.Errorf("got %d records, want two starts of one stream and a checkpoint", len(all))
	}
}

func TestLog_SendsCloudEvents(t *testing.T) {
	received := make(chan map[string]any, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		var event map[string]any
		content, _ := io.ReadAll(request.Body)
		if err := json.Unmarshal(content, &event); err == nil {
			event["content-type"] = request.Header.Get("Content-Type")
			received <- event
		}
	}))
	defer server.Close()
	l, r := newLog(t)
	l.Configure(Settings{WebhookURL: server.URL})
	l.Append(record("a"))
	<-received // the start
	event := <-received
	data, _ := event["data"].(map[string]any)
	if event["type"] != "dev.tekton.trustedresources.resource.signed.v1" || event["content-type"] != "application/cloudevents+json" ||
		data["type"] != "resource.signed" || event["id"] != l.stream+"/2" {
		t.Errorf("got event %v", event)
	}
	server.Close()
	l.Append(record("b"))
	await(t, func() bool { return r.count("webhook failed") > 0 })
}

// A webhook that never answers must not delay anybody.
func TestLog_DoesNotWaitForAWebhook(t *testing.T) {
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ended }))
	defer server.Close()
	defer close(ended)
	path := filepath.Join(t.TempDir(), "audit.log")
	l, r := newLog(t)
	settings := toFile(path)
	settings.WebhookURL = server.URL
	l.Configure(settings)
	started := time.Now()
	for range 2 * maxQueue {
		l.Append(record("a"))
	}
	if err := l.Write(t.Context(), record("last")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("writing took %v", took)
	}
	if r.count("webhook dropped") < maxQueue/2 {
		t.Errorf("counted %v, want dropped records", r.counts)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	l.Close(ctx)
}

func await(t *testing.T, condition func() bool) {
	t.Helper()
	deadline, ticker := time.After(20*time.Second), time.NewTicker(10*time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatal("the condition was not reached in time")
		case <-ticker.C:
		}
	}
}
