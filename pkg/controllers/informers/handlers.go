// SPDX-License-Identifier: Apache-2.0

package informers

import (
	"sync"

	"k8s.io/client-go/tools/cache"
)

// Handlers registers event handlers of informers and reports when all of them have
// seen the initial state of the cluster.
type Handlers struct {
	mu     sync.Mutex
	synced []cache.InformerSynced
}

// Add registers a handler.
func (h *Handlers) Add(informer cache.SharedIndexInformer, handler cache.ResourceEventHandler) error {
	registered, err := informer.AddEventHandler(handler)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.synced = append(h.synced, registered.HasSynced)
	return nil
}

// Await makes Synced wait for a condition, too.
func (h *Handlers) Await(synced func() bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.synced = append(h.synced, synced)
}

// Synced reports whether all handlers have seen the initial state. It is false
// until the first handler is registered.
func (h *Handlers) Synced() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, synced := range h.synced {
		if !synced() {
			return false
		}
	}
	return len(h.synced) > 0
}
