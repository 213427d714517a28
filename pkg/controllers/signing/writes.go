// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"bytes"
	"sync"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// writes are the signatures that the controller wrote and that the informer cache
// does not have yet, by key of the resource.
type writes struct {
	mu      sync.Mutex
	pending map[string]write
}

// write is one signature that was written.
type write struct {
	resourceVersion     string // after the write
	checksum, signature []byte
}

func newWrites() *writes { return &writes{pending: map[string]write{}} }

func (w *writes) add(key string, written write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[key] = written
}

// take returns the write that made this state of a resource, or ok == false if
// another writer made the state.
func (w *writes) take(key string, r *resource.Summary) (written write, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written, ok = w.pending[key]
	if !ok || written.resourceVersion != r.ResourceVersion {
		return write{}, false
	}
	delete(w.pending, key)
	return written, true
}

func (w *writes) forget(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pending, key)
}

// made reports whether the API server stored what was signed. A mutating webhook
// can change more than the annotation.
func (w write) made(r *resource.Summary) bool {
	return bytes.Equal(w.checksum, r.Checksum) && bytes.Equal(w.signature, r.Signature)
}
