// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// maxSilent is how many requests in a row a registry may leave without a response
	// before no more are sent.
	maxSilent = 3
	// silentFor is the time until one more request is sent. If the registry responds,
	// all requests are sent again.
	silentFor = 15 * time.Second
)

// SilentError means that no request is sent to a registry for a while, because it
// did not respond to the last ones. A request to a registry that hangs would hold
// a worker until the end of its time limit.
type SilentError struct {
	// Registry is the host of the registry.
	Registry string
	// Until is when the next request is sent. It is zero while one request finds out
	// whether the registry responds again.
	Until time.Time
}

func (e *SilentError) Error() string {
	again := "one request finds out now whether it responds again"
	if !e.Until.IsZero() {
		again = "it will be tried again after " + e.Until.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("registry %s did not respond to %d requests in a row: no request is sent, %s", e.Registry, maxSilent, again)
}

// breaker stops the requests to one registry while the registry does not respond.
// A response of any status, and a refused connection, come at once and stop
// nothing.
type breaker struct {
	registry string
	circuit  *gobreaker.TwoStepCircuitBreaker[struct{}]
	until    atomic.Pointer[time.Time] // when the circuit will be tried again
}

func newBreaker(registry string) *breaker {
	b := &breaker{registry: registry}
	b.circuit = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         registry,
		Timeout:      silentFor,
		ReadyToTrip:  func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= maxSilent },
		IsSuccessful: func(err error) bool { return !timedOut(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) }, // says nothing about the registry
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				until := time.Now().Add(silentFor)
				b.until.Store(&until)
			}
		},
	})
	return b
}

// allow returns a SilentError if no request may be sent. Otherwise the caller must
// call done with the error of the request.
func (b *breaker) allow() (done func(error), err error) {
	done, err = b.circuit.Allow()
	if err == nil {
		return done, nil
	}
	silent := &SilentError{Registry: b.registry}
	if until := b.until.Load(); errors.Is(err, gobreaker.ErrOpenState) && until != nil {
		silent.Until = *until
	}
	return nil, silent
}

// timedOut reports whether an error means that no response came in time.
func timedOut(err error) bool {
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// breakingTransport sends requests through a breaker. A request ends with the body
// of its response, which can stop in the middle.
type breakingTransport struct {
	http.RoundTripper
	breaker *breaker
}

// RoundTrip implements http.RoundTripper.
func (t breakingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	done, err := t.breaker.allow()
	if err != nil {
		return nil, err
	}
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		done(err)
		return nil, err
	}
	response.Body = newReportingBody(request.Context(), response.Body, done)
	return response, nil
}

// reportingBody reports how reading a body has ended. The end of the context ends
// the request even if nobody closes the body.
type reportingBody struct {
	io.ReadCloser
	end func(error)
}

func newReportingBody(ctx context.Context, body io.ReadCloser, done func(error)) *reportingBody {
	var once sync.Once
	stop := context.AfterFunc(ctx, func() { once.Do(func() { done(ctx.Err()) }) })
	return &reportingBody{body, func(err error) {
		stop()
		once.Do(func() { done(err) })
	}}
}

// Read implements io.Reader.
func (b *reportingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.end(nil)
	case err != nil:
		b.end(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *reportingBody) Close() error {
	err := b.ReadCloser.Close()
	b.end(nil)
	return err
}
