// SPDX-License-Identifier: Apache-2.0

package verification

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// answers answers searches, and counts them.
type answers struct {
	err   error
	count int
	left  time.Duration // until the deadline of the last search
}

func (a *answers) Signature(ctx context.Context, _ resource.Kind, _, _ string, _ []byte) (string, error) {
	a.count++
	deadline, _ := ctx.Deadline()
	a.left = time.Until(deadline)
	return "signature", a.err
}

func (l *lookups) search(ctx context.Context) (string, error) {
	return l.Signature(ctx, resource.Task, "ns", "task", nil)
}

func TestLookups_GiveUpAfterATimeout(t *testing.T) {
	registry := &answers{err: fmt.Errorf("registry: %w", context.DeadlineExceeded)}
	l := &lookups{from: registry, clock: clock.RealClock{}}
	if _, err := l.search(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want the one of the registry", err)
	}
	registry.err = nil
	for range 500 {
		if _, err := l.search(t.Context()); err == nil || !strings.Contains(err.Error(), "earlier search") {
			t.Fatalf("got error %v, want one that names an earlier search", err)
		}
	}
	if registry.count != 1 {
		t.Errorf("the registry was asked %d times, want once", registry.count)
	}
}

func TestLookups_ContinueAfterOtherErrors(t *testing.T) {
	registry := &answers{err: errors.New("not today")}
	l := &lookups{from: registry, clock: clock.RealClock{}}
	_, err := l.search(t.Context())
	if !errors.Is(err, registry.err) {
		t.Errorf("got error %v, want the one of the registry", err)
	}
	registry.err = nil
	if signature, err := l.search(t.Context()); signature != "signature" || err != nil {
		t.Errorf("got %q and error %v, want the signature", signature, err)
	}
	// The end of the caller's context says nothing about the registry.
	ended, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	registry.err = context.DeadlineExceeded
	_, _ = l.search(ended)
	registry.err = nil
	if _, err := l.search(t.Context()); err != nil {
		t.Errorf("got error %v after the context of another search had ended", err)
	}
}

func TestLookups_ShareOneDeadline(t *testing.T) {
	registry, clock := &answers{}, clocktesting.NewFakeClock(time.Now())
	l := &lookups{from: registry, clock: clock}
	for _, passed := range []time.Duration{0, lookupsTimeout / 2, lookupsTimeout / 2} {
		clock.Step(passed)
		_, err := l.search(t.Context())
		if err != nil {
			t.Fatal(err)
		}
	}
	if registry.left > 0 {
		t.Errorf("the last search had %v left, want none", registry.left)
	}
}
