// Package proctest helps tests that look at processes from outside.
package proctest

import (
	"bytes"
	"fmt"
	"os"
)

// Gone tells whether a process has ended. A zombie counts: all that is left of it waits for its parent.
func Gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	// The state follows the name, which is in parentheses and may contain any character. See proc(5).
	i := bytes.LastIndexByte(stat, ')')
	return i < 0 || i+2 >= len(stat) || stat[i+2] == 'Z' || stat[i+2] == 'X'
}
