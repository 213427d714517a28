// SPDX-License-Identifier: Apache-2.0

package resources

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

// Each kind of error has one consequence for the work queue.
func TestConclude_RetriesOrWaits(t *testing.T) {
	gr := schema.GroupResource{Group: "tekton.dev", Resource: "tasks"}
	for name, tc := range map[string]struct {
		err   error
		retry bool
	}{
		"conflict":         {apierrors.NewConflict(gr, "t", errors.New("newer")), false},
		"deleted":          {apierrors.NewNotFound(gr, "t"), false},
		"no key":           {fmt.Errorf("x: %w", keys.ErrNoKey), false},
		"old Tekton":       {fmt.Errorf("x: %w", tekton.ErrTooOld), false},
		"unread Tekton":    {tekton.Unread(errors.New("forbidden")).Check(), false},
		"key revoked":      {fmt.Errorf("x: %w", decision.ErrKeyRevoked), false},
		"not authorized":   {fmt.Errorf("x: %w", decision.ErrNotAuthorized), false},
		"requester unsafe": {fmt.Errorf("x: %w", decision.ErrRequesterUnsafe), false},
		"panicked":         {observe.Guard(func() error { panic("x") }), true},
		"undecided":        {fmt.Errorf("x: %w", decision.ErrUndecided), true},
		"signer failed":    {fmt.Errorf("x: %w", keys.ErrSigner), true},
		"forbidden":        {apierrors.NewForbidden(gr, "t", errors.New("no")), true},
		"server away":      {apierrors.NewServiceUnavailable("away"), true},
		"not stored, for want of a service account": {fmt.Errorf("%w: %w", ErrStoring, apierrors.NewNotFound(gr, "sa")), true},
		"not stored": {fmt.Errorf("%w: x", ErrStoring), true},
		"time is up": {context.DeadlineExceeded, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := conclude(t, tc.err)
			if retry := !controller.IsSkipKey(got); retry != tc.retry {
				t.Errorf("tried again: %v, want %v (%v)", retry, tc.retry, got)
			}
		})
	}
	busy := fmt.Errorf("%w: %w", ErrStoring, &registry.BusyError{Status: 429, After: time.Hour})
	if again, after := controller.IsRequeueKey(conclude(t, busy)); !again || after != time.Hour {
		t.Errorf("a registry that is busy for an hour: tried again %v, after %v", again, after)
	}
	after := controller.NewRequeueAfter(time.Second)
	if got := conclude(t, after); !errors.Is(got, after) {
		t.Errorf("a delay became %v", got)
	}
}

func conclude(t *testing.T, err error) error {
	t.Helper()
	return Conclude(t.Context(), silent{}, &resource.Summary{Kind: resource.Task, Namespace: "ns", Name: "t"}, err)
}

type silent struct{}

func (silent) Emit(context.Context, observe.Fact) {}
