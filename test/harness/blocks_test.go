// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"slices"
	"testing"
)

func TestShellBlocks_AreThoseOfThePage(t *testing.T) {
	page := "# Page\n" +
		"```sh\none\n# no heading\n```\n" +
		"## Second\n" +
		"```yaml\nkind: Task\n```\n" +
		"1. Step:\n\n   ```sh\n   two \\\n     --flag\n   ```\n"
	want := []Block{
		{Section: "Page", Line: 3, Script: "one\n# no heading\n"},
		{Section: "Second", Line: 13, Script: "two \\\n  --flag\n"},
	}
	if got := ShellBlocks(page); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
