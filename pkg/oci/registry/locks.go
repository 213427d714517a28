package registry

import (
	"context"
	"fmt"
	"hash/fnv"
)

// Locks has one process at a time do something. The context that it gives ends
// when that is not certain any more.
type Locks interface {
	Do(ctx context.Context, lock string, do func(context.Context) error) error
}

// locks lets one goroutine of this process through at a time, and one process.
// There is a fixed number of locks, so that none is left behind anywhere: what
// shares one only waits a little longer.
type locks struct {
	mine   [16]chan struct{} // each holds one token
	others Locks
}

func newLocks(others Locks) *locks {
	l := &locks{others: others}
	for i := range l.mine {
		l.mine[i] = make(chan struct{}, 1)
	}
	return l
}

func (l *locks) do(ctx context.Context, key string, do func(context.Context) error) error {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(key))
	slot := hash.Sum32() % uint32(len(l.mine))
	select {
	case l.mine[slot] <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.mine[slot] }()
	if l.others == nil {
		return do(ctx)
	}
	return l.others.Do(ctx, fmt.Sprintf("referrers-%d", slot), do)
}
