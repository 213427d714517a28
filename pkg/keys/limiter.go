package keys

import (
	"context"
	"errors"
	"fmt"
)

// errNoAnswer says that a key server did not answer in time.
var errNoAnswer = errors.New("no answer in time")

// patience bounds how many calls may be under way that nobody waits for any
// more. Not every client of a key server heeds its context.
type patience chan struct{}

func newPatience(calls int) patience { return make(patience, calls) }

// within returns when the call does or, with an error, when the context ends;
// the call is left behind then.
func within[T any](ctx context.Context, p patience, call func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	select {
	case p <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %d calls hang: %w", errNoAnswer, cap(p), ctx.Err())
	}
	answers := make(chan answer, 1)
	go func() {
		defer func() { <-p }()
		value, err := call()
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", errNoAnswer, ctx.Err())
	}
}
