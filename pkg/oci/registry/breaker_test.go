// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const patience = 10 * time.Second

// hangs is a registry that does not respond.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// stops is a registry that stops in the middle of a response.
func stops(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: stoppingBody{r.Context()}}, nil
}

type stoppingBody struct{ context.Context }

func (b stoppingBody) Read([]byte) (int, error) {
	<-b.Done()
	return 0, b.Err()
}

func (stoppingBody) Close() error { return nil }

// busy is a registry that responds with an error.
func busy(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusInternalServerError, Body: io.NopCloser(strings.NewReader("busy"))}, nil
}

func refuses(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
}

type respond func(*http.Request) (*http.Response, error)

func (f respond) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// requests sends requests to one registry through one breaker.
type requests struct {
	*testing.T
	breaker *breaker
}

func (r requests) send(registry respond) error {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	return r.sendIn(ctx, registry)
}

func (r requests) sendIn(ctx context.Context, registry respond) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://registry.example/v2/", nil)
	if err != nil {
		r.Fatal(err)
	}
	response, err := breakingTransport{registry, r.breaker}.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// expectSent fails the test if a request is not sent.
func (r requests) expectSent(registry respond, times int) {
	r.Helper()
	for range times {
		if err := r.send(registry); isSilent(err) {
			r.Fatalf("got error %v, want the request to be sent", err)
		}
	}
}

func (r requests) expectStopped() *SilentError {
	r.Helper()
	err := r.send(func(*http.Request) (*http.Response, error) {
		r.Error("the request was sent")
		return busy(nil)
	})
	silent, ok := errors.AsType[*SilentError](err)
	if !ok || !Unavailable(err) {
		r.Fatalf("got error %v, want a SilentError that is unavailable", err)
	}
	return silent
}

func isSilent(err error) bool {
	_, silent := errors.AsType[*SilentError](err)
	return silent
}

func inBubble(t *testing.T, test func(r requests)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(requests{t, newBreaker("registry.example")}) })
}

func TestBreaker_StopsRequestsToASilentRegistry(t *testing.T) {
	for name, silent := range map[string]respond{"no response": hangs, "half a response": stops} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(r requests) {
				r.expectSent(silent, maxSilent)
				start := time.Now()
				stopped := r.expectStopped()
				if time.Since(start) > 0 {
					r.Errorf("the error came after %v, want at once", time.Since(start))
				}
				for _, text := range []string{"registry.example", start.Add(silentFor).UTC().Format(time.RFC3339)} {
					if !strings.Contains(stopped.Error(), text) {
						r.Errorf("got error %q, want one with %q", stopped, text)
					}
				}
			})
		})
	}
}

func TestBreaker_TriesAgain(t *testing.T) {
	inBubble(t, func(r requests) {
		r.expectSent(hangs, maxSilent)
		<-time.After(silentFor + time.Second) // fake time
		r.expectSent(hangs, 1)
		_ = r.expectStopped() // one request is enough to know that nothing has changed
		<-time.After(silentFor + time.Second)
		r.expectSent(func(request *http.Request) (*http.Response, error) {
			_ = r.expectStopped() // one request at a time
			return busy(request)
		}, 1)
		r.expectSent(busy, 100)
	})
}

func TestBreaker_StopsNothingElse(t *testing.T) {
	for name, sends := range map[string]func(requests){
		"errors":              func(r requests) { r.expectSent(busy, 10*maxSilent) },
		"refused connections": func(r requests) { r.expectSent(refuses, 10*maxSilent) },
		"single timeouts": func(r requests) {
			for range 10 {
				r.expectSent(hangs, maxSilent-1)
				r.expectSent(busy, 1)
			}
		},
		"callers that do not wait": func(r requests) {
			for range 10 * maxSilent {
				ctx, cancel := context.WithCancel(r.Context())
				cancel()
				_ = r.sendIn(ctx, hangs)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(r requests) {
				sends(r)
				r.expectSent(busy, 1)
			})
		})
	}
}

// A client stops requests to one registry and continues with others. It has not
// found out yet whether the registry speaks TLS.
func TestClient_StopsRequestsToASilentRegistry(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts and does not respond
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	client, silent := NewClient(Options{}), listener.Addr().String()
	for range maxSilent {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		if _, err := client.Repository(ctx, silent+"/tekton"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got error %v, want a timeout", err)
		}
	}
	if _, err := client.Repository(t.Context(), silent+"/tekton"); !isSilent(err) || !strings.Contains(err.Error(), silent) {
		t.Errorf("got error %v, want a SilentError with %s", err, silent)
	}
	if _, err := client.Repository(t.Context(), "127.0.0.1:1/tekton"); err == nil || isSilent(err) {
		t.Errorf("another registry: got error %v, want the one of its connection", err)
	}
}
