// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// pageStep says what is true before and after a block of commands of a page.
type pageStep struct {
	section string // of the page
	// before prepares the block, or does in another way what the block says (instead).
	before func() (instead bool)
	after  func(output string)
}

// first returns a pageStep.before that lets the block be executed.
func first(prepare func()) func() bool {
	return func() bool { prepare(); return false }
}

// executePage executes each block of commands of a page in docs/, from top to bottom, in the
// root of the project.
func (e *env) executePage(name string, steps []pageStep) {
	e.t.Helper()
	e.executePageIn(harness.Root(), name, steps)
}

// executePageIn is executePage in another directory.
func (e *env) executePageIn(dir, name string, steps []pageStep) {
	e.t.Helper()
	page, err := os.ReadFile(filepath.Join(harness.Root(), "docs", name))
	e.check(err)
	blocks := harness.ShellBlocks(string(page))
	if len(blocks) != len(steps) {
		e.t.Fatalf("docs/%s has %d blocks of commands, the test %d", name, len(blocks), len(steps))
	}
	for i, block := range blocks {
		step := steps[i]
		if step.section != block.Section {
			e.t.Fatalf("docs/%s:%d: a block of the section %q, the test has %q", name, block.Line, block.Section, step.section)
		}
		if step.before != nil && step.before() {
			continue
		}
		output := e.bashIn(dir, block.Script)
		if step.after != nil {
			step.after(output)
		}
		if e.t.Failed() {
			e.t.Fatalf("docs/%s:%d failed, with the output\n%s", name, block.Line, output)
		}
	}
}
