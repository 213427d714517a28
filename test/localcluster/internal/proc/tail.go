// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// tailBytes is how much of a log Tail reads at most.
const tailBytes = 64 << 10

// Tail returns the last n lines of a file, indented, without the content before the offset start.
func Tail(file string, start int64, n int) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	start = max(start, info.Size()-tailBytes, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, start, info.Size()-start))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	text := strings.TrimRight(string(data), "\n")
	if text == "" {
		return "  (empty)", nil
	}
	lines := strings.Split(text, "\n")
	lines = lines[max(0, len(lines)-n):]
	return "  " + strings.Join(lines, "\n  "), nil
}
