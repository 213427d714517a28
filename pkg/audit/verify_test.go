// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	chainssigning "github.com/tektoncd/chains/pkg/chains/signing"

	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/test/fixtures"
)

// process writes the records of a stream.
type process struct {
	t      testing.TB
	stream string
	seq    uint64
	head   Hash
	now    *time.Time
	key    func() (*keys.Key, error)
}

func (p *process) write(r Record) string {
	p.t.Helper()
	*p.now = p.now.Add(time.Second)
	r.Stream, r.Seq, r.Time = p.stream, p.seq+1, *p.now
	if p.seq > 0 {
		r.Prev = p.head.String()
	}
	line, err := Encode(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.seq, p.head = r.Seq, HashOf(line)
	return string(line)
}

func (p *process) last() *Head { return &Head{p.stream, p.seq, p.head.String()} }

func (p *process) checkpoint(reason CheckpointReason) string {
	return p.write(Checkpoint{Head: *p.last(), Reason: reason}.Sign(p.t.Context(), p.key))
}

// signing returns a key, and the ring that trusts it.
func signing(t testing.TB) (func() (*keys.Key, error), *keys.Ring) {
	t.Helper()
	secret, public, err := fixtures.X509Secret()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := secret.Write(dir); err != nil {
		t.Fatal(err)
	}
	ring := keys.Load(t.Context(), dir, keys.Settings{SignerTypes: []string{chainssigning.TypeX509}})
	return func() (*keys.Key, error) { return ring.Active(chainssigning.TypeX509) }, trusting(t, public)
}

func trusting(t testing.TB, public crypto.PublicKey) *keys.Ring {
	t.Helper()
	ring, err := keys.NewVerifyingRing(public)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func signed(i int) Record {
	return Record{
		ID: IdentityOf(ResourceSigned, fmt.Sprint(i)), Type: ResourceSigned, Outcome: Success, Attempt: fmt.Sprintf("attempt-%d", i),
		Object: &Object{Kind: "Task", Namespace: "ns", Name: fmt.Sprintf("task-%d", i)},
	}
}

func intent(i int) Record {
	r := signed(i)
	r.Type, r.Outcome, r.ID = ResourceSigning, "", IdentityOf(ResourceSigning, fmt.Sprint(i))
	return r
}

const active, rotated = "audit.log", "audit-2026-11-28T10-00-08.000.log"

// written are the lines of two files. The first process was killed, the second one was
// stopped: records 1 to 7 of "one" are in the rotated file, the rest is in the active one.
type written struct {
	rotated, active []string
	trusted         *keys.Ring
	one, two        *process
}

func write(t testing.TB) *written {
	t.Helper()
	now := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	key, ring := signing(t)
	one := &process{t: t, stream: "one", now: &now, key: key}
	w := &written{trusted: ring, one: one}
	w.rotated = append(w.rotated, one.write(Record{Type: Started, Start: &Start{Sinks: []string{"file"}}}))
	for i := range 3 {
		w.rotated = append(w.rotated, one.write(intent(i)), one.write(signed(i)))
	}
	w.active = append(w.active, one.checkpoint(FileRotated), one.write(intent(3)), one.write(signed(3)), one.write(intent(4)))
	two := &process{t: t, stream: "two", now: &now, key: key}
	w.two = two
	w.active = append(w.active, two.write(Record{Type: Started, Start: &Start{Sinks: []string{"file"}, Previous: one.last()}}))
	w.active = append(w.active, two.write(signed(5)), two.write(signed(6)), two.checkpoint(Shutdown))
	return w
}

func (w *written) verify(t testing.TB, o Options) *Report {
	t.Helper()
	report, err := Verify(t.Context(), []File{
		{active, strings.NewReader(joined(w.active))}, {rotated, strings.NewReader(joined(w.rotated))},
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func joined(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestVerify_AcceptsWhatWasWritten(t *testing.T) {
	w := write(t)
	report := w.verify(t, Options{Trusted: w.trusted, Stopped: true, Head: w.two.last()})
	if !report.Verified || report.Records != 15 || !slices.Equal(report.Files, []string{rotated, active}) {
		t.Fatalf("got %+v", report)
	}
	if one, two := report.Streams[0], report.Streams[1]; one.Ended != EndedBySuccessor || one.Signed != 7 || two.Ended != EndedByShutdown || two.Signed != 3 {
		t.Errorf("got streams %+v", report.Streams)
	}
	if len(report.Intents) != 1 || report.Intents[0].Attempt != "attempt-4" {
		t.Errorf("got %d intents without an outcome, want that of attempt-4", len(report.Intents))
	}
}

// Each change of the files is found, with file, line, stream and number.
func TestVerify_FindsAndNamesChanges(t *testing.T) {
	edit := func(line *string) { *line = strings.Replace(*line, "task-", "evil-", 1) }
	for name, tc := range map[string]struct {
		change func(w *written)
		want   Finding // of these fields, all that are set
	}{
		"removed":                          {func(w *written) { w.rotated = slices.Delete(w.rotated, 3, 4) }, Finding{Problem: Removed, File: rotated, Line: 4, Stream: "one", Seq: 4, Expected: "4", Found: "5"}},
		"removed across files":             {func(w *written) { w.active = w.active[1:] }, Finding{Problem: Removed, File: active, Line: 1, Stream: "one", Seq: 8}},
		"changed":                          {func(w *written) { edit(&w.rotated[4]) }, Finding{Problem: Changed, File: rotated, Line: 5, Stream: "one", Seq: 5}},
		"last of a file changed":           {func(w *written) { edit(&w.rotated[6]) }, Finding{Problem: Changed, File: rotated, Line: 7, Stream: "one", Seq: 7}},
		"last of a killed process changed": {func(w *written) { edit(&w.active[3]) }, Finding{Problem: Changed, File: active, Line: 4, Stream: "one", Seq: 11}},
		"reordered":                        {func(w *written) { w.rotated[2], w.rotated[3] = w.rotated[3], w.rotated[2] }, Finding{Problem: Reordered, File: rotated, Line: 4, Stream: "one", Seq: 3, Expected: "5", Found: "3"}},
		"duplicated":                       {func(w *written) { w.rotated = slices.Insert(w.rotated, 5, w.rotated[2]) }, Finding{Problem: Duplicated, File: rotated, Line: 6, Stream: "one", Seq: 3}},
		"end of a killed process removed":  {func(w *written) { w.active = slices.Delete(w.active, 2, 4) }, Finding{Problem: Truncated, File: active, Line: 2, Stream: "one", Seq: 9, Expected: "11", Found: "9"}},
		"end removed":                      {func(w *written) { w.active = w.active[:7] }, Finding{Problem: Truncated, File: active, Line: 7, Stream: "two", Seq: 3}},
		"end cut":                          {func(w *written) { w.active[7] = w.active[7][:50] + "\x00" }, Finding{Problem: Unreadable, File: active, Line: 8}},
		"swapped":                          {func(w *written) { w.active, w.rotated = w.rotated, w.active }, Finding{Problem: Swapped, File: active, Expected: rotated, Found: active}},
		"whole stream removed":             {func(w *written) { w.rotated, w.active = w.active[4:], nil }, Finding{}}, // only a note: older files are deleted
		"line is garbage":                  {func(w *written) { w.rotated[1] = "{" }, Finding{Problem: Unreadable, File: rotated, Line: 2}},
		"line is long":                     {func(w *written) { w.rotated[1] = strings.Repeat("x", 3*MaxLine) }, Finding{Problem: Unreadable, File: rotated, Line: 2}},
		"begin of a stream removed":        {func(w *written) { w.active = slices.Delete(w.active, 4, 5) }, Finding{Problem: Removed, File: active, Line: 5, Stream: "two", Seq: 2}},
		"checkpoint of another record": {func(w *written) {
			w.active[0] = strings.Replace(w.active[0], `"head":{"stream":"one","seq":7`, `"head":{"stream":"one","seq":6`, 1)
		}, Finding{Problem: BadCheckpoint, File: active, Line: 1, Stream: "one", Seq: 6}},
		"signature removed": {func(w *written) {
			at := strings.Index(w.active[7], `,"dsse":`)
			w.active[7] = w.active[7][:at] + "}"
		}, Finding{Problem: BadCheckpoint, File: active, Line: 8, Stream: "two", Seq: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			w := write(t)
			tc.change(w)
			report := w.verify(t, Options{Trusted: w.trusted, Stopped: true})
			if tc.want.Problem == "" {
				if len(report.Notes) == 0 {
					t.Error("there is no note")
				}
				return
			}
			if report.Verified || !slices.ContainsFunc(report.Findings, tc.want.describes) {
				t.Errorf("got findings %+v, want %+v", report.Findings, tc.want)
			}
		})
	}
}

func (want Finding) describes(f Finding) bool {
	return f.Problem == want.Problem && f.File == want.File && f.Stream == want.Stream && f.Seq == want.Seq && f.Line == want.Line &&
		(want.Expected == "" || f.Expected == want.Expected && f.Found == want.Found) && f.Message != ""
}

// Somebody without the key can write a whole chain anew, but not sign its checkpoints.
func TestVerify_FindsAChainThatWasWrittenAnew(t *testing.T) {
	w, forged := write(t), write(t)
	if report := forged.verify(t, Options{Stopped: true}); !report.Verified {
		t.Errorf("without keys: %+v", report.Findings)
	}
	report := forged.verify(t, Options{Stopped: true, Trusted: w.trusted})
	if report.Verified || report.Findings[0].Problem != BadCheckpoint {
		t.Errorf("with keys: %+v", report.Findings)
	}
}

// Leaving out the checkpoints does not help either.
func TestVerify_FindsAStreamWithoutSignedCheckpoints(t *testing.T) {
	now := time.Now()
	p := &process{t: t, stream: "s", now: &now}
	lines := append(make([]string, 0, 301), p.write(Record{Type: Started, Start: &Start{}}))
	for i := range 300 { // of one second each
		lines = append(lines, p.write(signed(i)))
	}
	_, trusted := signing(t)
	w := &written{active: lines}
	if report := w.verify(t, Options{}); !report.Verified {
		t.Errorf("without keys: %+v", report.Findings)
	}
	if report := w.verify(t, Options{Trusted: trusted}); report.Verified || report.Findings[0].Problem != BadCheckpoint {
		t.Errorf("with keys: %+v", report.Findings)
	}
}

func TestVerify_ComparesWithACopy(t *testing.T) {
	w := write(t)
	head := w.two.last()
	w.active = w.active[:7] // nothing in the files tells that
	for name, tc := range map[string]struct {
		head *Head
		want bool
	}{
		"no copy":               {nil, true},
		"copy has more":         {head, false},
		"copy has as much":      {&Head{Seq: 3, Hash: HashOf([]byte(w.active[6])).String()}, true},
		"copy has another hash": {&Head{Seq: 3, Hash: HashOf(nil).String()}, false},
	} {
		if got := w.verify(t, Options{Trusted: w.trusted, Head: tc.head}).Verified; got != tc.want {
			t.Errorf("%s: verified %v, want %v", name, got, tc.want)
		}
	}
}

// A process that is killed leaves a line that does not end. The next process ends it.
func TestVerify_NamesInterruptedLines(t *testing.T) {
	w := write(t)
	w.active = slices.Insert(w.active, 4, `{"logger":"audit","schema`)
	report := w.verify(t, Options{Trusted: w.trusted, Stopped: true})
	if !report.Verified || !slices.ContainsFunc(report.Notes, Finding{Problem: Interrupted, File: active, Line: 5}.describes) {
		t.Errorf("got findings %+v and notes %+v, want a note", report.Findings, report.Notes)
	}
	w = write(t)
	w.active = slices.Insert(w.active, 2, `{"logger":"audit","schema`) // in the middle of a stream
	if report := w.verify(t, Options{}); report.Verified {
		t.Error("a broken line in a stream is accepted")
	}
}

func TestVerify_AcceptsDeclaredGaps(t *testing.T) {
	now := time.Now()
	p := &process{t: t, stream: "s", now: &now}
	lines := append(make([]string, 0, 4), p.write(Record{Type: Started, Start: &Start{}}), p.write(signed(1)))
	p.write(signed(2)) // lost
	p.write(signed(3)) // lost
	gap := Record{Type: RecordsLost, Gap: &Gap{Sink: "file", First: 3, Lost: 2, Previous: &Head{"s", 2, HashOf([]byte(lines[1])).String()}}}
	lines = append(lines, p.write(gap), p.write(signed(4)))
	w := &written{active: lines}
	report := w.verify(t, Options{})
	if !report.Verified || !slices.ContainsFunc(report.Notes, Finding{Problem: Lost, File: active, Line: 3, Stream: "s", Seq: 5}.describes) {
		t.Errorf("got findings %+v and notes %+v, want a note", report.Findings, report.Notes)
	}
	w.active = slices.Delete(w.active, 1, 2)
	if report := w.verify(t, Options{}); report.Verified {
		t.Error("a gap hides a record that it does not name")
	}
}

func TestResolve_ReadsTheAuditLogOfTheAPIServer(t *testing.T) {
	w := write(t)
	event := func(id string, code int) string {
		return fmt.Sprintf(`{"auditID":%q,"stage":"ResponseComplete","responseStatus":{"code":%d}}`, id, code)
	}
	for name, tc := range map[string]struct {
		log  []string
		want Resolution
	}{
		"stored":   {[]string{event("other", 200), event("attempt-4", 409), event("attempt-4", 200), event("attempt-4", 429)}, PatchStored},
		"refused":  {[]string{event("attempt-4", 409), `{"audit`}, PatchRefused},
		"not sent": {[]string{event("other", 200)}, PatchNotSent},
	} {
		report := w.verify(t, Options{})
		if err := report.Resolve(t.Context(), strings.NewReader(joined(tc.log))); err != nil || report.Intents[0].Resolution != tc.want {
			t.Errorf("%s: got %q and error %v", name, report.Intents[0].Resolution, err)
		}
	}
	if err := w.verify(t, Options{}).Resolve(t.Context(), strings.NewReader("garbage\n"+event("attempt-4", 200))); err == nil {
		t.Error("garbage is accepted")
	}
}

func FuzzVerify(f *testing.F) {
	w := write(f)
	f.Add([]byte(joined(w.rotated)), []byte(joined(w.active)))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		report, err := Verify(context.Background(), []File{{rotated, bytes.NewReader(first)}, {active, bytes.NewReader(second)}}, Options{Trusted: w.trusted})
		if err != nil {
			t.Fatal(err)
		}
		if report.Verified != (report.FindingsInAll == 0) {
			t.Error("the report contradicts itself")
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	r := signed(1)
	for b.Loop() {
		line, err := Encode(r)
		if err != nil {
			b.Fatal(err)
		}
		r.Prev = HashOf(line).String()
	}
}

func BenchmarkVerify(b *testing.B) {
	now := time.Now()
	p := &process{t: b, stream: "s", now: &now}
	lines := append(make([]string, 0, 10_001), p.write(Record{Type: Started, Start: &Start{}}))
	for i := range 10_000 {
		lines = append(lines, p.write(signed(i)))
	}
	content := []byte(joined(lines))
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := Verify(b.Context(), []File{{active, bytes.NewReader(content)}}, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
