// SPDX-License-Identifier: Apache-2.0

package signing

import (
	"crypto/sha256"
	"sync"
	"time"

	"k8s.io/utils/clock"
	"k8s.io/utils/lru"
)

const (
	// takeover is how long another replica may still have signed after this replica
	// began to look after the resources: the time for one resource.
	takeover = timeout
	// maxDeleted bounds the deleted resources that are remembered, at about 250 bytes
	// each. They count because somebody may delete a resource and create an earlier
	// state of it.
	maxDeleted = 10_000
)

// contents remembers which content of each resource was signed last, to notice an
// earlier signed content that comes back. It takes about 120 bytes for each
// resource (docs/design/0017).
type contents struct {
	clock clock.PassiveClock

	mu      sync.Mutex // guards the fields below
	since   time.Time  // when the replica began to look after the resources
	signed  map[string][sha256.Size]byte
	deleted *lru.Cache // the entries of deleted resources
}

func newContents(clock clock.PassiveClock) *contents {
	c := &contents{clock: clock}
	c.restart()
	return c
}

// restart forgets everything: another replica may have signed since.
func (c *contents) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.signed, c.deleted = c.clock.Now(), map[string][sha256.Size]byte{}, lru.New(maxDeleted)
}

// wrote remembers a content that this replica signed.
func (c *contents) wrote(key string, checksum []byte) { c.found(key, checksum) }

// found remembers a content with a valid signature. It reports whether the
// resource had another signed content before, and this replica would know if it
// had signed the change.
func (c *contents) found(key string, checksum []byte) (changed bool) {
	var now [sha256.Size]byte
	copy(now[:], checksum)
	c.mu.Lock()
	defer c.mu.Unlock()
	before, known := c.signed[key]
	if !known {
		before, known = c.recreated(key)
	}
	c.signed[key] = now
	return known && before != now && c.clock.Since(c.since) > takeover
}

// recreated returns the content that a resource with this key had when it was
// deleted.
func (c *contents) recreated(key string) (checksum [sha256.Size]byte, known bool) {
	if value, found := c.deleted.Get(key); found {
		checksum, known = value.([sha256.Size]byte)
		c.deleted.Remove(key)
	}
	return checksum, known
}

// gone remembers that a resource does not exist any more.
func (c *contents) gone(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if checksum, known := c.signed[key]; known {
		c.deleted.Add(key, checksum)
		delete(c.signed, key)
	}
}

// forget makes a resource unknown.
func (c *contents) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.signed, key)
}
