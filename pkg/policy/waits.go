// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jellydator/ttlcache/v3"
	"k8s.io/utils/clock"

	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// How long the KMS that the policies of a namespace name can hold callers. The
// callers are workers that all namespaces share (--threads-per-controller, 8 by
// default).
const (
	// signingPatience is the patience for callers that sign resources. Such a caller
	// tries again later.
	signingPatience = 250 * time.Millisecond
	// reportPatience is the patience for callers that make attestations. An
	// attestation is made once, so a slow KMS gets more time.
	reportPatience = 2 * time.Second
	// hurry divides the patience while some caller waits for longer: then a KMS may
	// hang, and tenants could take turns at waiting.
	hurry = 5
	// maxLongWaits bounds the callers that wait for longer than the patience:
	// fewer than there are workers.
	maxLongWaits, maxLongWaitsOfNamespace = 4, 2
	// silence is how long the KMS of a namespace are not called after one did not
	// answer. It is shorter than MaxFailureAge, in which that one is remembered as
	// unavailable, so that the others get their turn.
	silence = 2 * time.Second
)

// waits bounds the waiting for answers of KMS, for each namespace whose policies name
// them. Every caller may wait for the patience. Few may wait for longer: for a KMS
// that is slow, those get the answer. For a KMS that hangs, their timeout is
// remembered, so that the next callers do not wait at all.
type waits struct {
	patience time.Duration
	clock    clock.PassiveClock

	mu     sync.Mutex
	long   int                                // callers that wait for longer than the patience
	longOf map[string]int                     // the same by namespace
	silent *ttlcache.Cache[string, time.Time] // end of the silence, by namespace
}

func newWaits(patience time.Duration, clock clock.PassiveClock) *waits {
	return &waits{
		patience: patience, clock: clock, longOf: map[string]int{},
		silent: ttlcache.New(ttlcache.WithCapacity[string, time.Time](maxNamespaces)),
	}
}

// isWaiting is the key of a context in which do is running.
type isWaiting struct{}

// wait is the waiting of one caller. waits.mu guards the fields below namespace.
type wait struct {
	namespace string
	long      bool // for longer than the patience
	ended     bool
}

// do runs call, which calls KMS for the policies of a namespace and returns soon
// after its context has ended, at the latest after callTimeout. The error wraps
// keys.ErrNoAnswer if the caller must not wait, or not wait any longer. Inside of
// call, do only runs what it is given: the caller has one patience for all.
func (w *waits) do(ctx context.Context, namespace string, call func(context.Context) error) error {
	if ctx.Value(isWaiting{}) != nil {
		return call(ctx)
	}
	patience := w.patienceWith(namespace)
	if patience == 0 {
		return errNotAsked
	}
	caller := &wait{namespace: namespace}
	limited, cancel := context.WithTimeout(context.WithValue(ctx, isWaiting{}, true), callTimeout)
	defer cancel()
	waiting, giveUp := context.WithCancelCause(limited)
	defer giveUp(nil)
	timer := time.AfterFunc(patience, func() {
		if !w.mayWaitLonger(caller) {
			giveUp(errGaveUp)
		}
	})
	defer timer.Stop()
	err := call(waiting)
	// A caller that was canceled has not waited long enough to tell.
	w.end(caller, isTimeout(err) && !errors.Is(ctx.Err(), context.Canceled))
	if err != nil && errors.Is(context.Cause(waiting), errGaveUp) {
		return fmt.Errorf("%w: %w", errGaveUp, err)
	}
	return err
}

var (
	errNotAsked = fmt.Errorf("%w: a KMS that the policies of this namespace name did not answer a moment ago, "+
		"so none is asked; asked again in a few seconds", keys.ErrNoAnswer)
	errGaveUp = fmt.Errorf("%w: too many wait for an answer; asked again later", keys.ErrNoAnswer)
)

// patienceWith returns how long every caller may wait for the KMS of a namespace. Zero
// means that the caller must not call them.
func (w *waits) patienceWith(namespace string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	item := w.silent.Get(namespace)
	switch {
	case w.longOf[namespace] >= maxLongWaitsOfNamespace, item != nil && w.clock.Now().Before(item.Value()):
		return 0
	case w.long > 0:
		return w.patience / hurry
	default:
		return w.patience
	}
}

// mayWaitLonger reports whether the caller may wait for longer than the patience.
func (w *waits) mayWaitLonger(caller *wait) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if caller.ended || w.longOf[caller.namespace] >= maxLongWaitsOfNamespace {
		return caller.ended
	}
	if w.long >= maxLongWaits {
		w.silenceLocked(caller.namespace)
		return false
	}
	caller.long = true
	w.long++
	w.longOf[caller.namespace]++
	return true
}

// end ends the waiting of a caller.
func (w *waits) end(caller *wait, unanswered bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	caller.ended = true
	if !caller.long {
		return
	}
	w.long--
	if w.longOf[caller.namespace]--; w.longOf[caller.namespace] == 0 {
		delete(w.longOf, caller.namespace)
	}
	if unanswered {
		w.silenceLocked(caller.namespace)
	}
}

func (w *waits) silenceLocked(namespace string) {
	w.silent.Set(namespace, w.clock.Now().Add(silence), ttlcache.NoTTL)
}
