// SPDX-License-Identifier: Apache-2.0

package realnode

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
	want := []block{
		{section: "Page", line: 3, script: "one\n# no heading\n"},
		{section: "Second", line: 13, script: "two \\\n  --flag\n"},
	}
	if got := shellBlocks(page); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
