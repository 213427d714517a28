// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"testing"
)

// Tests are built from no release. test/release reads the version of a release.
func TestVersion_IsThatOfTheProgram(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := New(&stdout, &stderr).Run(t.Context(), []string{"version"}); code != OK {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	if got, want := stdout.String(), "devel\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
