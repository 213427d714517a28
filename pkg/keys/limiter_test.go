// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// hangingKMS accepts calls, ignores their context, and answers none before
// release is closed.
type hangingKMS struct {
	signature.SignerVerifier
	calls   atomic.Int64
	release chan struct{}
}

var errReleased = errors.New("released")

func (h *hangingKMS) hang() error {
	h.calls.Add(1)
	<-h.release
	return errReleased
}

func (h *hangingKMS) SignMessage(io.Reader, ...signature.SignOption) ([]byte, error) {
	return nil, h.hang()
}

func (h *hangingKMS) VerifySignature(io.Reader, io.Reader, ...signature.VerifyOption) error {
	return h.hang()
}

func (h *hangingKMS) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return nil, h.hang()
}

func TestSign_AbandonsHangingKMS(t *testing.T) {
	server := &hangingKMS{release: make(chan struct{})}
	defer close(server.release)
	key := &Key{ID: "sha256:hangs", signer: NewKMSClient(server, "hanging", NewCallLimiter(time.Minute, 2))}
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := key.Sign(ctx, []byte("message")); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got error %v, want ErrNoAnswer and context.DeadlineExceeded", err)
		}
		cancel()
	}
	if calls := server.calls.Load(); calls > 2 {
		t.Errorf("%d calls hang, want at most 2", calls)
	}
}

func TestKMSClient_BoundsEveryCall(t *testing.T) {
	for name, call := range map[string]func(context.Context, signature.SignerVerifier) error{
		"PublicKey": func(ctx context.Context, c signature.SignerVerifier) error {
			_, err := c.PublicKey(options.WithContext(ctx))
			return err
		},
		"SignMessage": func(ctx context.Context, c signature.SignerVerifier) error {
			_, err := c.SignMessage(nil, options.WithContext(ctx))
			return err
		},
		"VerifySignature": func(ctx context.Context, c signature.SignerVerifier) error {
			return c.VerifySignature(nil, nil, options.WithContext(ctx))
		},
		"PublicKey without context": func(_ context.Context, c signature.SignerVerifier) error {
			_, err := c.PublicKey()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &hangingKMS{release: make(chan struct{})}
				client := NewKMSClient(server, "hanging", NewCallLimiter(10*time.Second, 1))
				start := time.Now()
				if err := call(t.Context(), client); !errors.Is(err, ErrNoAnswer) {
					t.Errorf("got error %v, want ErrNoAnswer", err)
				}
				if waited := time.Since(start); waited != 10*time.Second {
					t.Errorf("the caller waited for %s, want 10s", waited)
				}
				close(server.release)
			})
		})
	}
}

func TestCall_ReturnsResultAndError(t *testing.T) {
	limiter := NewCallLimiter(time.Minute, 1)
	for range 3 { // one call after the other
		got, err := Call(t.Context(), limiter, OperationSign, "key", func(context.Context) (int, error) { return 42, nil })
		if got != 42 || err != nil {
			t.Fatalf("got %d and error %v, want 42", got, err)
		}
	}
	failure := errors.New("no")
	if _, err := Call(t.Context(), limiter, OperationSign, "key", func(context.Context) (int, error) { return 0, failure }); !errors.Is(err, failure) {
		t.Errorf("got error %v, want %v", err, failure)
	}
}

func TestCall_HangingKeyDoesNotDelayOtherKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := NewCallLimiter(time.Second, 1)
		server := &hangingKMS{release: make(chan struct{})}
		hang := func(context.Context) (int, error) { return 0, server.hang() }
		if _, err := Call(t.Context(), limiter, OperationSign, "hanging", hang); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("got error %v, want ErrNoAnswer", err)
		}
		start := time.Now()
		if got, err := Call(t.Context(), limiter, OperationSign, "other", func(context.Context) (int, error) { return 42, nil }); got != 42 || err != nil {
			t.Errorf("got %d and error %v, want 42", got, err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the call to another key waited for %s", waited)
		}
		close(server.release)
		synctest.Wait()
		if len(limiter.keys) != 0 {
			t.Errorf("the limiter remembers %d keys after all calls ended, want none", len(limiter.keys))
		}
	})
}

// The observer is told of each call that began, also of one that is abandoned.
func TestCall_TellsObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		limiter := NewCallLimiter(time.Second, 1)
		limiter.OnRequest(func(_ context.Context, r Request) {
			got = append(got, fmt.Sprint(r.Provider, " ", r.Operation, " ", r.Took, " ", r.Err != nil))
		})
		server := &hangingKMS{release: make(chan struct{})}
		answer := func(context.Context) (int, error) { return 42, nil }
		hang := func(context.Context) (int, error) { return 0, server.hang() }
		_, err := Call(t.Context(), limiter, OperationSign, "hashivault://key", answer)
		_, hung := Call(t.Context(), limiter, OperationVerify, "unknown://key", hang)
		_, waited := Call(t.Context(), limiter, OperationVerify, "unknown://key", answer) // does not begin
		if err != nil || !errors.Is(hung, ErrNoAnswer) || !errors.Is(waited, ErrNoAnswer) {
			t.Errorf("got errors %v, %v, %v", err, hung, waited)
		}
		if want := []string{"hashivault sign 0s false", " verify 1s true"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		close(server.release)
		synctest.Wait()
	})
}
