package registry

import (
	"context"
	"encoding/json"
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
	// maxMetadata bounds manifests and lists, in bytes: the distribution
	// specification asks registries for no more.
	maxMetadata = 4 << 20
	// maxResponse bounds all that a registry may send in one response.
	maxResponse = 8 << 20
	// maxPages bounds the lists that a registry cuts up.
	maxPages = 100
	// maxRetryAfter bounds how long a registry can put us off.
	maxRetryAfter = 10 * time.Minute
)

// BusyError says that a registry has asked to be left alone for a while.
type BusyError struct {
	Status int
	After  time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("the registry is busy (HTTP status %d) and asks to try again in %s", e.Status, e.After)
}

// Unavailable says whether an error tells nothing about what was asked for: the
// registry did not answer, or not to us.
func Unavailable(err error) bool {
	if response, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return response.StatusCode != http.StatusNotFound
	}
	var network net.Error
	var busy *BusyError
	var none unanswered
	return errors.As(err, &network) || errors.As(err, &busy) || errors.As(err, &none) ||
		errors.Is(err, auth.ErrBasicCredentialNotFound) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// unanswered marks the errors that are Unavailable for where they come from: no
// connection, no credentials, half a response.
type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// maxRefusal bounds what is read of an error, in bytes.
const maxRefusal = 8 << 10

// refusal is the error in a response, as the library tells it.
func refusal(response *http.Response) error {
	var body struct {
		Errors errcode.Errors `json:"errors"`
	}
	_ = json.NewDecoder(io.LimitReader(response.Body, maxRefusal)).Decode(&body) // the status says enough
	return &errcode.ErrorResponse{
		Method: response.Request.Method, URL: response.Request.URL, StatusCode: response.StatusCode, Errors: body.Errors,
	}
}

func nameUnknown(err error) bool {
	response, ok := errors.AsType[*errcode.ErrorResponse](err)
	return ok && response.StatusCode == http.StatusNotFound
}

// bounded ends responses that are longer than any that we ask for, and heeds
// Retry-After.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusTooManyRequests || response.StatusCode == http.StatusServiceUnavailable {
		if after := retryAfter(response.Header.Get("Retry-After")); after > 0 {
			_ = response.Body.Close()
			return nil, &BusyError{Status: response.StatusCode, After: after}
		}
	}
	response.Body = &boundedBody{ReadCloser: response.Body, left: maxResponse}
	return response, nil
}

// retryAfter reads a Retry-After header (RFC 9110, section 10.2.3); zero if
// there is none that makes sense.
func retryAfter(value string) time.Duration {
	var after time.Duration
	if seconds, err := strconv.Atoi(value); err == nil {
		after = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = time.Until(at)
	}
	return min(max(after, 0), maxRetryAfter)
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the registry sent more than %d bytes", maxResponse)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// Close reads what is left of an error that was not read to its end: net/http
// uses the connection again only then.
func (b *boundedBody) Close() error {
	_, _ = io.CopyN(io.Discard, b, maxRefusal)
	return b.ReadCloser.Close()
}
