// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"bytes"
	"os"
)

// stdout is the standard output of the process. The log of the process goes there, too, or
// to the standard error.
type stdout struct{}

func newStdout() *sink {
	return &sink{name: stdoutSink, place: stdout{}, most: maxBatch, of: func(s Settings) string {
		if s.Stdout {
			return stdoutSink
		}
		return ""
	}}
}

func (stdout) configure(Settings)   {}
func (stdout) open() (*tail, error) { return nil, nil } //nolint:nilnil // an output has no records before
func (stdout) close() error         { return nil }

func (stdout) write(batch []entry) error {
	_, err := os.Stdout.Write(lines(batch))
	return err
}

func lines(batch []entry) []byte {
	all := make([][]byte, 0, len(batch))
	for _, e := range batch {
		all = append(all, e.line)
	}
	return bytes.Join(all, nil)
}
