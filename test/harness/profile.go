// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Profile reads a profile of net/http/pprof, such as "heap", from the controller.
// Profiling must be enabled in the ConfigMap ConfigObservability.
func (c *Controller) Profile(ctx context.Context, profile string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.ProfilingURL+profile, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", request.URL, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: expected status 200, found %s; is profiling enabled in the ConfigMap %s?",
			request.URL, response.Status, ConfigObservability)
	}
	return content, nil
}
