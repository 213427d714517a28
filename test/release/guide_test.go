// SPDX-License-Identifier: Apache-2.0

//go:build release

package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// Each command of the section "Verify a release" works as it is, in a directory with the
// downloaded files.
func TestGuide_VerifiesTheRelease(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "release.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## Verify a release\n")
	if !found {
		t.Fatal("docs/release.md has no section about verification")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	tools := t.TempDir()
	if err := os.Symlink(newest().Path(), filepath.Join(tools, "cosign")); err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(section, "```sh\n")[1:]
	const expected = 3
	if len(blocks) != expected {
		t.Errorf("%d blocks of commands, want %d", len(blocks), expected)
	}
	for _, block := range blocks {
		script, _, _ := strings.Cut(block, "```")
		run := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		run.Dir = dist("")
		run.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"))
		if out, err := run.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
	}
}
