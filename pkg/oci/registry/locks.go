// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"hash/fnv"
)

// Locks is mutual exclusion between processes. Do calls critical while this
// process holds the named lock, and cancels the context of critical when the
// lock is no longer certain.
type Locks interface {
	Do(ctx context.Context, lock string, critical func(context.Context) error) error
}

// referrerLocks is mutual exclusion between the goroutines of this process, and
// between processes if there are Locks. The number of locks is fixed, so that no
// lock object is left behind for each subject. Two subjects with the same lock
// only wait longer.
type referrerLocks struct {
	slots     [16]chan struct{} // full while a goroutine holds the lock
	processes Locks             // may be nil
}

func newReferrerLocks(processes Locks) *referrerLocks {
	l := &referrerLocks{processes: processes}
	for i := range l.slots {
		l.slots[i] = make(chan struct{}, 1)
	}
	return l
}

// do calls critical while this goroutine holds the lock of the key.
func (l *referrerLocks) do(ctx context.Context, key string, critical func(context.Context) error) error {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key))
	slot := hash.Sum32() % uint32(len(l.slots))
	select {
	case l.slots[slot] <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.slots[slot] }()
	if l.processes == nil {
		return critical(ctx)
	}
	return l.processes.Do(ctx, fmt.Sprintf("referrers-%d", slot), critical)
}
