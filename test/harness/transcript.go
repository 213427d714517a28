// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"io"
	"strings"
	"sync"
)

// transcript is a writer that forwards its input to out and keeps a copy.
type transcript struct {
	out io.Writer

	mu   sync.Mutex
	text strings.Builder
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p)
	return t.out.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
