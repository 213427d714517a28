// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

const (
	// maxMetadata bounds manifests and lists, in bytes. The distribution
	// specification requires registries to accept manifests of this size.
	maxMetadata = 4 << 20
	// maxResponse bounds the body of every response, in bytes.
	maxResponse = 8 << 20
	// maxUnreadError bounds the unread rest of an error response that Close reads,
	// in bytes.
	maxUnreadError = 8 << 10
	// maxPages bounds the pages of a list.
	maxPages = 100
	// tagsPerPage are the tags in one response. maxTagPages bounds the responses.
	tagsPerPage, maxTagPages = 100, 1000
	// maxRetryAfter bounds the delay that a registry can ask for.
	maxRetryAfter = 10 * time.Minute
)

// BusyError means that the registry asks the client to wait (HTTP header
// Retry-After).
type BusyError struct {
	// Status is the HTTP status.
	Status int
	// After is the time to wait.
	After time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("the registry is busy (HTTP status %d) and asks to try again in %s", e.Status, e.After)
}

// Unavailable reports whether an error is a transport, authentication or server
// error. Such an error does not say whether the requested content exists or is
// valid.
func Unavailable(err error) bool {
	if response, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return response.StatusCode != http.StatusNotFound
	}
	var network net.Error
	var busy *BusyError
	var silent *SilentError
	var unavailable unavailableError
	return errors.As(err, &network) || errors.As(err, &busy) || errors.As(err, &silent) || errors.As(err, &unavailable) ||
		errors.Is(err, auth.ErrBasicCredentialNotFound) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// unavailableError marks errors of other packages for Unavailable, which cannot
// tell them by their type: no connection, no credentials, a partial response.
type unavailableError struct{ error }

func (e unavailableError) Unwrap() error { return e.error }

func isStatusNotFound(err error) bool {
	response, ok := errors.AsType[*errcode.ErrorResponse](err)
	return ok && response.StatusCode == http.StatusNotFound
}

// limitingTransport limits the size of responses, and turns a response with
// Retry-After into a BusyError.
type limitingTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t limitingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable {
		if after := retryAfter(response.Header.Get("Retry-After")); after > 0 {
			_ = response.Body.Close()
			return nil, &BusyError{Status: response.StatusCode, After: after}
		}
	}
	response.Body = &limitedBody{ReadCloser: response.Body, remaining: maxResponse}
	return response, nil
}

// observedTransport tells requested of each request; requested may be nil.
type observedTransport struct {
	http.RoundTripper

	requested func(ctx context.Context, method string, status int, took time.Duration)
}

// RoundTrip implements http.RoundTripper.
func (t observedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	began := time.Now()
	response, err := t.RoundTripper.RoundTrip(request)
	if t.requested != nil {
		status := 0
		if err == nil {
			status = response.StatusCode
		}
		t.requested(request.Context(), request.Method, status, time.Since(began))
	}
	return response, err
}

// retryAfter parses a Retry-After header (RFC 9110, section 10.2.3). It returns
// zero for an invalid value, and at most maxRetryAfter.
func retryAfter(value string) time.Duration {
	var after time.Duration
	if seconds, err := strconv.Atoi(value); err == nil {
		after = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = time.Until(at)
	}
	return min(max(after, 0), maxRetryAfter)
}

// limitedBody is the body of a response. Reading more than the limit is an error.
type limitedBody struct {
	io.ReadCloser
	remaining int64
}

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	if b.remaining <= 0 {
		return 0, fmt.Errorf("the registry sent more than %d bytes", maxResponse)
	}
	if int64(len(p)) > b.remaining {
		p = p[:b.remaining]
	}
	n, err := b.ReadCloser.Read(p)
	b.remaining -= int64(n)
	return n, err
}

// Close reads the unread rest of a short body first, because net/http reuses a
// connection only after the whole body was read.
func (b *limitedBody) Close() error {
	_, _ = io.CopyN(io.Discard, b, maxUnreadError)
	return b.ReadCloser.Close()
}
