// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

func TestBundlePins_ListsTheDigestsToPinInstead(t *testing.T) {
	f := newFixture(t)
	dir := t.TempDir()
	oldPublic := f.writeKeyPair(dir)
	oldRing, signerType := signingRing(t.Context(), dir, "")
	oldKey, err := oldRing.Active(signerType)
	if err != nil {
		t.Fatal(err)
	}
	key, err := f.key()
	if err != nil {
		t.Fatal(err)
	}
	obj := newTask("description")
	pins := func(code int, keys ...string) (stdout, stderr string) {
		t.Helper()
		return f.run(code, append([]string{"bundle", "pins", "-n", "prod", "--repository", f.store.Prefix, "-o", "json"}, keys...)...)
	}
	old, err := f.store.Put(t.Context(), obj, nil, oldKey, tekton.Newest)
	if err != nil {
		t.Fatal(err)
	}
	if stdout, _ := pins(OK, "--key", f.publicKey); strings.TrimSpace(stdout) != "[]" {
		t.Errorf("before the rotation: %s", stdout)
	}
	present, err := f.store.Put(t.Context(), obj, nil, key, tekton.Newest)
	if err != nil {
		t.Fatal(err)
	}
	stdout, _ := pins(OK, "--key", f.publicKey, "--key", oldPublic)
	var got []pin
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || len(got) != 1 {
		t.Fatalf("%v: %s", err, stdout)
	}
	if p := got[0]; p.Old != old.Reference || p.New != present.Reference || p.OldSigner != oldKey.ID || p.NewSigner != key.ID || p.Name != "build" || p.Checksum != present.Tag {
		t.Errorf("got %+v, want %s to %s", p, old.Reference, present.Reference)
	}
	if stdout, stderr := pins(Findings, "--key", oldPublic); strings.TrimSpace(stdout) != "[]" || !strings.Contains(stderr, "not trusted") {
		t.Errorf("without the new key: %s%s", stdout, stderr)
	}
	table, _ := f.run(OK, "bundle", "pins", "-n", "prod", "--repository", f.store.Prefix, "--key", f.publicKey)
	if !strings.Contains(table, "no trusted key") || !strings.Contains(table, old.Reference) {
		t.Errorf("the table is\n%s", table)
	}
}
