// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// ErrNoAnswer means that a KMS did not answer in time.
var ErrNoAnswer = errors.New("no answer in time")

// CallLimiter bounds the calls to each key of a KMS: how long a caller waits,
// and how many calls run at the same time.
//
// Some KMS clients ignore their context. The caller then returns in time and
// abandons the call. The abandoned call counts until it ends, so that a KMS that
// hangs cannot collect goroutines.
type CallLimiter struct {
	timeout  time.Duration
	maxCalls int
	observe  Observer // nil: nobody is told

	mu   sync.Mutex
	keys map[string]*keyCalls // by reference to the key
}

// keyCalls are the calls to one key.
type keyCalls struct {
	slots chan struct{}
	users int // callers that wait and calls that run; guarded by CallLimiter.mu
}

// NewCallLimiter returns a limiter that allows maxCalls calls to each key at the
// same time. A caller waits for timeout at most.
func NewCallLimiter(timeout time.Duration, maxCalls int) *CallLimiter {
	return &CallLimiter{timeout: timeout, maxCalls: maxCalls, keys: map[string]*keyCalls{}}
}

// OnRequest makes the limiter tell an observer of each call. Call OnRequest before Call.
func (l *CallLimiter) OnRequest(observe Observer) { l.observe = observe }

func (l *CallLimiter) observed(ctx context.Context, operation Operation, keyRef string, began time.Time, err error) {
	if l.observe != nil {
		l.observe(ctx, NewRequest(operation, keyRef, began, err))
	}
}

// Slot is a place among the calls that a CallLimiter allows at the same time.
type Slot struct {
	limiter *CallLimiter
	key     string
}

// Slot returns a place among the calls with this key. The key need not be a
// reference: a limiter can as well bound the calls on behalf of a namespace.
func (l *CallLimiter) Slot(key string) Slot { return Slot{l, key} }

// Call runs call and returns its result. It returns an error that wraps
// ErrNoAnswer when the context ends, or the limiter's timeout is over, before
// there is a result. The context of call ends when Call returns.
//
// The call also takes the slots in within, and takes them first: a caller that waits
// for one of them must not hold the slot of the key.
func Call[T any](
	ctx context.Context, l *CallLimiter, operation Operation, keyRef string, call func(context.Context) (T, error), within ...Slot,
) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	release, err := acquire(ctx, append(slices.Clip(within), l.Slot(keyRef)))
	if err != nil {
		return none, err
	}
	began := time.Now()
	results := make(chan result, 1)
	go func() {
		defer release()
		var r result
		defer func() { results <- r }()
		defer func() { // a panic here would end the process, whoever the caller is
			if p := recover(); p != nil {
				r.err = fmt.Errorf("the client of the KMS panicked with a value of type %T", p)
			}
		}()
		r.value, r.err = call(ctx)
	}()
	select {
	case r := <-results:
		l.observed(ctx, operation, keyRef, began, r.err)
		return r.value, r.err
	case <-ctx.Done():
		err := fmt.Errorf("%w: %w", ErrNoAnswer, ctx.Err())
		l.observed(ctx, operation, keyRef, began, err)
		return none, err
	}
}

// acquire waits until a call may start in all slots. The caller must call release
// after the call.
func acquire(ctx context.Context, slots []Slot) (release func(), err error) {
	releases := make([]func(), 0, len(slots))
	release = func() {
		for _, release := range slices.Backward(releases) {
			release()
		}
	}
	for _, slot := range slots {
		releaseSlot, err := slot.limiter.acquire(ctx, slot.key)
		if err != nil {
			release()
			return nil, err
		}
		releases = append(releases, releaseSlot)
	}
	return release, nil
}

// acquire waits until a call to the key may start. The caller must call release
// after the call.
func (l *CallLimiter) acquire(ctx context.Context, keyRef string) (release func(), err error) {
	if err := ctx.Err(); err != nil { // select picks a free slot or the end of the context at random
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	calls := l.enter(keyRef)
	select {
	case calls.slots <- struct{}{}:
		return func() {
			<-calls.slots
			l.leave(keyRef, calls)
		}, nil
	case <-ctx.Done():
		l.leave(keyRef, calls)
		return nil, fmt.Errorf("%w: %d earlier calls have not ended: %w", ErrNoAnswer, l.maxCalls, ctx.Err())
	}
}

func (l *CallLimiter) enter(keyRef string) *keyCalls {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.keys[keyRef]
	if calls == nil {
		calls = &keyCalls{slots: make(chan struct{}, l.maxCalls)}
		l.keys[keyRef] = calls
	}
	calls.users++
	return calls
}

// leave removes the entry of a key that has no more users, so that the memory
// does not grow with the number of keys.
func (l *CallLimiter) leave(keyRef string, calls *keyCalls) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if calls.users--; calls.users == 0 {
		delete(l.keys, keyRef)
	}
}
