// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/trusted-resources/chains-extension/test/localcluster/internal/proc"
)

// maxResponse is the size of a response that a client reads at most.
const maxResponse = 4 << 20

// Client is a client of the control API of a running supervisor.
type Client struct {
	base, token string
}

// NewClient returns a client for the address and token in state.json.
func NewClient(base, token string) Client { return Client{base: base, token: token} }

// Parts lists all parts.
func (c Client) Parts(ctx context.Context) ([]proc.Status, error) {
	return c.call(ctx, http.MethodGet, "/v1/parts", nil)
}

// Add starts a new part and waits until it is healthy.
func (c Client) Add(ctx context.Context, req AddRequest) ([]proc.Status, error) {
	return c.call(ctx, http.MethodPost, "/v1/parts", req)
}

// Remove stops an added part and removes it.
func (c Client) Remove(ctx context.Context, name string) ([]proc.Status, error) {
	return c.call(ctx, http.MethodDelete, "/v1/parts/"+url.PathEscape(name), nil)
}

// Do runs start, stop, kill or restart on a part and waits until it is done.
func (c Client) Do(ctx context.Context, name, action string) ([]proc.Status, error) {
	return c.call(ctx, http.MethodPost, "/v1/parts/"+url.PathEscape(name)+"/"+url.PathEscape(action), nil)
}

// Upgrade installs another release of Tekton and waits until its parts are healthy.
func (c Client) Upgrade(ctx context.Context, version string) ([]proc.Status, error) {
	return c.call(ctx, http.MethodPost, "/v1/tekton", UpgradeRequest{Version: version})
}

func (c Client) call(ctx context.Context, method, path string, body any) ([]proc.Status, error) {
	payload, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the supervisor does not respond: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return nil, fmt.Errorf("response of the supervisor: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var failure ErrorResponse
		if err := json.Unmarshal(data, &failure); err != nil || failure.Error == "" {
			return nil, fmt.Errorf("the supervisor responded %s: %s", resp.Status, data)
		}
		return nil, errors.New(failure.Error)
	}
	var parts []proc.Status
	if err := json.Unmarshal(data, &parts); err != nil {
		return nil, fmt.Errorf("response of the supervisor: %w", err)
	}
	return parts, nil
}
