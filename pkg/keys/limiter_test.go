package keys

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
)

// hanging is a key server that takes connections and never answers.
type hanging struct {
	signature.Signer
	calls   atomic.Int64
	release chan struct{}
}

func (h *hanging) SignMessage(io.Reader, ...signature.SignOption) ([]byte, error) {
	h.calls.Add(1)
	<-h.release
	return nil, errors.New("released")
}

func TestAKeyServerThatHangsIsLeftBehind(t *testing.T) {
	server := &hanging{release: make(chan struct{})}
	defer close(server.release)
	key := &Key{ID: "sha256:hangs", signer: server, calls: newPatience(2)}
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := key.Sign(ctx, []byte("message")); !errors.Is(err, errNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		cancel()
	}
	if calls := server.calls.Load(); calls > 2 {
		t.Errorf("%d calls hang, want at most 2", calls)
	}
}

func TestWithinGivesTheAnswer(t *testing.T) {
	calls := newPatience(1)
	for range 3 { // one after the other
		if got, err := within(t.Context(), calls, func() (int, error) { return 42, nil }); got != 42 || err != nil {
			t.Fatalf("got %d and %v", got, err)
		}
	}
	failure := errors.New("no")
	if _, err := within(t.Context(), calls, func() (int, error) { return 0, failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
}
