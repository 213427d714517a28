// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

const (
	// askInterval is the time between two questions while rights are missing.
	askInterval = 15 * time.Second
	// askRetry is the time until a question is repeated that was not answered.
	askRetry = time.Second
	// askTimeout bounds all questions of one attempt.
	askTimeout = 10 * time.Second
)

// Observer gets the answers of the API server.
type Observer interface {
	// Missing is called when the list of missing rights has changed. The list is empty
	// when no right is missing any more.
	Missing(ctx context.Context, rights []string)
	// Unknown is called when the API server did not answer.
	Unknown(ctx context.Context, err error)
}

// Gate is open once the service account has had all rights.
type Gate struct {
	reviews  Reviews
	needed   []Right
	observer Observer

	reported []string // the missing rights that were last reported
	lacking  atomic.Bool
	opened   atomic.Bool
}

// NewGate returns a gate that is not open.
func NewGate(reviews Reviews, needed []Right, observer Observer) *Gate {
	return &Gate{reviews: reviews, needed: needed, observer: observer}
}

// IsOpen reports whether the gate is open.
func (g *Gate) IsOpen() bool { return g.opened.Load() }

// LacksRights reports whether the last answer of the API server was that rights are
// missing. It is false until there is an answer.
func (g *Gate) LacksRights() bool { return g.lacking.Load() }

// Open calls open, and opens the gate when open has returned without an error, as
// soon as the service account has all rights. Open returns after the first answer of
// the API server. If rights are missing, it continues to ask in the background.
func (g *Gate) Open(ctx context.Context, open func(context.Context) error) error {
	var known []string
	err := wait.PollUntilContextCancel(ctx, askRetry, true, func(ctx context.Context) (answered bool, _ error) {
		known, answered = g.ask(ctx)
		return answered, nil
	})
	if err != nil {
		return err
	}
	if len(known) == 0 {
		return g.open(ctx, open)
	}
	go func() {
		_ = wait.PollUntilContextCancel(ctx, askInterval, false, func(ctx context.Context) (bool, error) {
			known, answered := g.ask(ctx)
			if !answered || len(known) > 0 {
				return false, nil
			}
			return true, g.open(ctx, open) // an error means that ctx has ended
		})
	}()
	return nil
}

func (g *Gate) open(ctx context.Context, open func(context.Context) error) error {
	if err := open(ctx); err != nil {
		return err
	}
	g.opened.Store(true)
	return nil
}

// ask returns the missing rights, and reports them if they have changed.
func (g *Gate) ask(ctx context.Context) (known []string, answered bool) {
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	known, err := missing(asking, g.reviews, g.needed)
	if err != nil {
		g.observer.Unknown(ctx, err)
		return nil, false
	}
	g.lacking.Store(len(known) > 0)
	if !slices.Equal(known, g.reported) {
		g.reported = known
		g.observer.Missing(ctx, known)
	}
	return known, true
}
