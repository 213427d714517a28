// SPDX-License-Identifier: Apache-2.0

// Package proctest has helpers for tests that examine other processes.
package proctest

import (
	"bytes"
	"fmt"
	"os"
)

// Gone reports whether a process has ended. A zombie has ended, too: only its entry in the process table is left.
func Gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// The state comes after the name, which is in parentheses and may contain any character, see proc(5).
	i := bytes.LastIndexByte(stat, ')')
	return i < 0 || i+2 >= len(stat) || stat[i+2] == 'Z' || stat[i+2] == 'X'
}
