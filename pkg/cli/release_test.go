// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// A bundle for an older Tekton is signed and accepted for that release only.
func TestBundle_ChecksTheReleaseOfTekton(t *testing.T) {
	f := newFixture(t)
	key, err := f.key()
	if err != nil {
		t.Fatal(err)
	}
	older, err := f.store.Put(t.Context(), newTask("a"), nil, key, tekton.NullTimestamps)
	if err != nil {
		t.Fatal(err)
	}
	newer := f.pushSigned(key, "prod:newer", newTask("b"))
	sign := []string{"bundle", "sign", "--signing-secrets", f.signingSecrets}
	verify := []string{"bundle", "verify", "--key", f.publicKey, "-o", "json"}
	for _, tc := range []struct {
		reference, release string
		code               int
	}{
		{older.Reference, "v1.9.3", OK},
		{older.Reference, "v1.6.0", OK},
		{older.Reference, "v1.10.0", Findings},
		{older.Reference, "v1.15.0", Findings},
		{newer, "v1.12.0", OK},
		{newer, "v1.15.0", OK},
		{newer, "v1.9.3", Findings},
		{newer, "v1.5.0", Failed},
		{newer, "newest", Failed},
		{newer, "", Failed},
	} {
		for _, command := range [][]string{sign, verify} {
			_, stderr := f.run(tc.code, append(command, "--tekton-release", tc.release, tc.reference)...)
			if tc.code == Findings && (!strings.Contains(stderr, "Task prod/build") || !strings.Contains(stderr, "v1.10.0")) {
				t.Errorf("%v for %s: got error %s", command[1], tc.release, stderr)
			}
		}
	}
	for reference, want := range map[string]string{
		older.Reference: "Tekton before v1.10.0", newer: "Tekton v1.14.0 and newer, Tekton v1.10.0 to before v1.14.0",
	} {
		var got verification
		stdout, _ := f.run(OK, append(verify, reference)...)
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || strings.Join(got.Resources[0].Tekton, ", ") != want {
			t.Errorf("without the flag: got %s and %v, want %q", stdout, err, want)
		}
	}
	other := []string{"bundle", "sign", "--signing-secrets", t.TempDir(), "--tekton-release", "v1.15.0", newer}
	f.writeKeyPair(other[3])
	if _, stderr := f.run(Findings, other...); !strings.Contains(stderr, "not signed with a trusted key") {
		t.Errorf("with another key: got error %s", stderr)
	}
}
