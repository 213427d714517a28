// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"
)

// readyFunc is the type of proc.Spec.Ready.
type readyFunc = func(ctx context.Context, started time.Time) error

// httpReady returns a probe that succeeds when the URL responds with a 2xx status.
func httpReady(url string, tlsConfig *tls.Config) readyFunc {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true}}
	return func(ctx context.Context, _ time.Time) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode/100 != 2 {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // only for the error message
			return fmt.Errorf("GET %s: %s: %s", url, resp.Status, body)
		}
		return nil
	}
}

// all returns a probe that succeeds when all conditions succeed. It checks them in order.
func all(conditions ...readyFunc) readyFunc {
	return func(ctx context.Context, started time.Time) error {
		for _, ready := range conditions {
			if err := ready(ctx, started); err != nil {
				return err
			}
		}
		return nil
	}
}
