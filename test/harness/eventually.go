// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Eventually polls until check returns nil. Otherwise the error has the last error of
// check.
func Eventually(ctx context.Context, within time.Duration, check func(context.Context) error) error {
	last := errors.New("the check did not run")
	err := wait.PollUntilContextTimeout(ctx, PollInterval, within, true, func(ctx context.Context) (bool, error) {
		last = check(ctx)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("still failing after %v: %w", within, last)
	}
	return nil
}
