// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const schemaFile = "../../docs/audit.schema.json"

func validate(t *testing.T, schema *jsonschema.Schema, line string) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

func TestSchema_DescribesRecords(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	schema, err := compiler.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	key, _ := signing(t)
	p := &process{t: t, stream: uuid.NewString(), now: &now, key: key}
	full := signed(1)
	full.Attempt, full.KeyID = uuid.NewString(), Hash{}.String()
	full.Actor, full.RequestedBy = &User{User: "me"}, &User{User: "alice", Basis: SignedAnnotation}
	full.Why, full.Policy = &Why{Reason: "Unsigned", PreviousKeyID: full.KeyID}, &Policy{Name: "p"}
	full.Run, full.Result, full.DurationMs = &Object{Kind: "TaskRun", Name: "r"}, "PASSED", 1.5
	lines := []string{
		p.write(Record{Type: Started, Outcome: Success, Start: &Start{Version: "v", Sinks: []string{"file"}}}),
		p.write(full), p.checkpoint(EnoughTime),
		p.write(Record{Type: RecordsLost, Gap: &Gap{Sink: "file", First: 2, Lost: 2, Previous: p.last()}}),
	}
	p.key = nil
	for _, line := range lines {
		if err := validate(t, schema, line); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	for name, change := range map[string][2]string{
		"another type": {`"resource.signed"`, `"resource.eaten"`}, "another field": {`"seq":`, `"spec":{},"seq":`}, "a bad hash": {`"keyId":"sha256:0`, `"keyId":"sha256:x`},
	} {
		if err := validate(t, schema, strings.Replace(lines[1], change[0], change[1], 1)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSchema_HasAllTypes(t *testing.T) {
	content, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Type struct{ Enum []Type }
		}
	}
	if err := json.Unmarshal(content, &schema); err != nil {
		t.Fatal(err)
	}
	all := []Type{
		ResourceSigning, ResourceSigned, ResourceSignFailed, ResourceStored, ResourceRestoredEarlierState, Verification, VerificationDiffers,
		RunReleased, RunRefused, KeyActivated, KeyRetired, KeyRevoked, ConfigLoaded, ConfigRefused, PolicyChanged, Started, CheckpointMade, RecordsLost,
	}
	if !slices.Equal(schema.Properties.Type.Enum, all) {
		t.Errorf("the schema has the types %v, want %v", schema.Properties.Type.Enum, all)
	}
}

func TestEncode_BoundsRecords(t *testing.T) {
	for name, text := range map[string]string{"letters": "x", "control characters": "\x01", "no UTF-8": "\xff"} {
		r := signed(1)
		long := strings.Repeat(text, 20_000)
		r.Object.Name, r.RequestedBy, r.Why = long, &User{User: long}, &Why{Reason: long, Message: long}
		line, err := Encode(r)
		if err != nil || len(line) > MaxLine {
			t.Fatalf("%s: got %d bytes and error %v", name, len(line), err)
		}
		var got Record
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatal(err)
		}
		if want := []string{"requestedBy", "object", "why", "why.message"}; !slices.Equal(got.Shortened, want) || !strings.HasSuffix(got.Why.Message, ellipsis) {
			t.Errorf("%s: shortened %v, want %v", name, got.Shortened, want)
		}
	}
}

func TestRedacted_RemovesCredentials(t *testing.T) {
	for text, want := range map[string]string{ //nolint:gosec // invented credentials
		"git+https://user:token@host/repo.git?token=a#frag and more": "git+https://host/repo.git and more",
		`found "https://a:b@host/p?x=y", expected z`:                 `found "https://host/p", expected z`,
		"hashivault://key":      "hashivault://key",
		"no URL, a@b?c":         "no URL, a@b?c",
		"https://u:p@ss@host/x": "https://host/x",
	} {
		if got := Redacted(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}
