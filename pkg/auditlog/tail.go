// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trusted-resources/chains-extension/pkg/audit"
)

// lastRecord returns the last record of the file, or, if that is new, of the last file that
// was rotated. partial says that the file ends in the middle of a line.
func lastRecord(path string) (last *tail, partial bool, err error) {
	last, partial, err = lastRecordOf(path)
	if last != nil || err != nil {
		return last, partial, err
	}
	extension := filepath.Ext(path)
	rotated, err := filepath.Glob(escaped(strings.TrimSuffix(path, extension)) + "-*" + escaped(extension))
	if err != nil || len(rotated) == 0 {
		return nil, partial, err
	}
	last, _, err = lastRecordOf(slices.Max(rotated)) // the names have the times of the rotations
	return last, partial, err
}

// escaped returns a pattern that matches the text only.
func escaped(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(text)
}

// lastRecordOf returns the last record of one file; nil if it has none.
func lastRecordOf(path string) (last *tail, partial bool, err error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = f.Close() }() // the file was only read
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, false, err
	}
	// A whole line before one that was not ended.
	const window = 2*audit.MaxLine + 2
	content, err := io.ReadAll(io.NewSectionReader(f, max(0, info.Size()-window), window))
	if err != nil || len(content) == 0 {
		return nil, false, err
	}
	partial = content[len(content)-1] != '\n'
	all := bytes.Split(content, []byte("\n"))
	for _, line := range slices.Backward(all[:len(all)-1]) {
		if r, err := audit.Parse(line); err == nil {
			return &tail{audit.Head{Stream: r.Stream, Seq: r.Seq, Hash: audit.HashOf(line).String()}, r.Time}, partial, nil
		}
	}
	return nil, partial, nil
}
