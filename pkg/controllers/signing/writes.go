// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"bytes"
	"crypto/sha256"
	"sync"

	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// writes are the signatures that the controller wrote and that the informer cache
// does not have yet, by key of the resource.
type writes struct {
	mu      sync.Mutex
	pending map[string]write
}

// write is one signature that was sent to the API server.
type write struct {
	// resourceVersion is that after the write. It is empty if the API server has not
	// answered: the answer can be lost although the signature was written.
	resourceVersion string
	content         [sha256.Size]byte
	signature       []byte
	// fact is emitted when it is known that the signature was written. It is nil
	// afterwards: during a backlog, many writes wait for the informer cache, and the fact
	// has the whole summary.
	fact *observe.Signed
}

func newWrites() *writes { return &writes{pending: map[string]write{}} }

func (w *writes) add(key string, written write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[key] = written
}

// take returns the write that put the signature on this state of a resource, or
// ok == false if another writer did.
func (w *writes) take(key string, r *resource.Summary) (written write, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written, ok = w.pending[key]
	if !ok || !written.signs(r) {
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

// signs reports whether the write put the signature on this state. If the API
// server has not answered, the signature tells.
func (w write) signs(r *resource.Summary) bool {
	if !w.answered() {
		return bytes.Equal(w.signature, r.Signature)
	}
	return w.resourceVersion == r.ResourceVersion
}

func (w write) answered() bool { return w.resourceVersion != "" }

// made reports whether the API server stored what was signed. A mutating webhook
// can change more than the annotation.
func (w write) made(r *resource.Summary) bool {
	return bytes.Equal(w.content[:], r.Checksums.Content()) && bytes.Equal(w.signature, r.Signature)
}
