// SPDX-License-Identifier: Apache-2.0

package realnode

import "strings"

// block is a block of shell commands in a page.
type block struct {
	section string // the heading above the block
	line    int    // of the first command
	script  string
}

const fence = "```"

// shellBlocks returns the blocks of a page in Markdown that start with ```sh. Blocks in
// lists are indented, and lose the indentation of their fence.
func shellBlocks(page string) []block {
	var blocks []block
	var section, indent string
	open, shell := false, false
	for i, line := range strings.Split(page, "\n") {
		text := strings.TrimSpace(line)
		switch {
		case open && text == fence:
			open = false
		case open:
			if shell {
				last := &blocks[len(blocks)-1]
				last.script += strings.TrimPrefix(line, indent) + "\n"
			}
		case strings.HasPrefix(text, fence):
			open, shell = true, text == fence+"sh"
			if shell {
				indent, _, _ = strings.Cut(line, fence)
				blocks = append(blocks, block{section: section, line: i + 2})
			}
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	return blocks
}
