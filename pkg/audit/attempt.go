// SPDX-License-Identifier: Apache-2.0

package audit

import "context"

type attemptKey struct{}

// WithAttempt returns a context whose requests belong to an attempt.
func WithAttempt(ctx context.Context, attempt string) context.Context {
	return context.WithValue(ctx, attemptKey{}, attempt)
}

// AttemptOf returns the attempt that the requests of a context belong to, or "".
func AttemptOf(ctx context.Context) string {
	attempt, _ := ctx.Value(attemptKey{}).(string)
	return attempt
}
