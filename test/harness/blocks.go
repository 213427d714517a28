// SPDX-License-Identifier: Apache-2.0

package harness

import "strings"

// Block is a block of shell commands in a page.
type Block struct {
	Section string // the heading above the block
	Line    int    // of the first command
	Script  string
}

const fence = "```"

// ShellBlocks returns the blocks of a page in Markdown that start with ```sh. Blocks in
// lists are indented, and lose the indentation of their fence.
func ShellBlocks(page string) []Block {
	var blocks []Block
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
				last.Script += strings.TrimPrefix(line, indent) + "\n"
			}
		case strings.HasPrefix(text, fence):
			open, shell = true, text == fence+"sh"
			if shell {
				indent, _, _ = strings.Cut(line, fence)
				blocks = append(blocks, Block{Section: section, Line: i + 2})
			}
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	return blocks
}
