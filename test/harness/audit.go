// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// AuditEvents returns the events in the audit log of the API server, beginning at an offset in
// bytes. A last line that the API server has not completed is left out. An error is the last
// value.
func (c *Cluster) AuditEvents(since int64) iter.Seq2[*auditv1.Event, error] {
	return func(yield func(*auditv1.Event, error) bool) {
		log, err := os.Open(c.AuditLog())
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = log.Close() }() // the file was only read
		if _, err := log.Seek(since, io.SeekStart); err != nil {
			yield(nil, err)
			return
		}
		for lines := bufio.NewReader(log); ; {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			var event auditv1.Event
			if err := json.Unmarshal(line, &event); err != nil {
				yield(nil, fmt.Errorf("a line of %s is no event: %w", c.AuditLog(), err))
				return
			}
			if !yield(&event, nil) {
				return
			}
		}
	}
}
