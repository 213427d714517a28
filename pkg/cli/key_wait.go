// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// errBlocked means that what a command waits for has not happened, and the error says why.
var errBlocked = errors.New("not done")

// waitInterval is the time between two looks at a KeyRing.
const waitInterval = time.Second

// Values of the flag --wait of a rotation.
const (
	untilDone   = "done"
	untilActive = "active"
)

// rotationWait has the flags --wait and --timeout of commands that rotate.
type rotationWait struct {
	until   string
	timeout time.Duration
}

func (w *rotationWait) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&w.until, "wait", "", `print what happens until the rotation is "done", or until the key is "active"`)
	flags.Lookup("wait").NoOptDefVal = untilDone
	addTimeout(command, &w.timeout)
}

func addTimeout(command *cobra.Command, timeout *time.Duration) {
	command.Flags().DurationVar(timeout, "timeout", 0, "end with exit code 1 if it takes longer (default: wait as long as it takes)")
}

// check refuses values that make no sense, before something is changed.
func (w *rotationWait) check(dryRun bool) error {
	switch w.until {
	case "", untilDone, untilActive:
	default:
		return fmt.Errorf("--wait=%s: expected %s or %s", w.until, untilDone, untilActive)
	}
	if dryRun {
		w.until = "" // nothing happens
	}
	return nil
}

// run waits if the flags ask for that, and prints the KeyRing.
func (w *rotationWait) run(ctx context.Context, t *keyTool, ring *v1alpha1.KeyRing, to string) error {
	if w.until == "" {
		return t.show(ring)
	}
	view := func(ring *v1alpha1.KeyRing) ([]step, error) { return rotationSteps(ring, to, w.until == untilActive) }
	return t.watch(ctx, ring, w.timeout, view)
}

// watch prints the steps of a KeyRing whenever they change, until all are done.
func (t *keyTool) watch(ctx context.Context, ring *v1alpha1.KeyRing, timeout time.Duration, view func(*v1alpha1.KeyRing) ([]step, error)) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errBlocked)
		defer cancel()
	}
	var printed printer
	var steps []step
	last := ring
	err := wait.PollUntilContextCancel(ctx, waitInterval, true, func(ctx context.Context) (bool, error) {
		found, err := t.reader.Get(ctx, ring.Name, metav1.GetOptions{})
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
			return false, t.explain(err, "get", "keyrings")
		case err != nil: // the wait goes on
			printed.note(t.progress, fmt.Sprintf("KeyRing %s cannot be read now: %v", ring.Name, err))
			return false, nil
		}
		last = found
		if steps, err = view(found); err != nil {
			return false, err
		}
		printed.print(t.progress, steps, time.Now())
		return firstUndone(steps) == nil, nil
	})
	if err != nil && ctx.Err() != nil {
		err = endOfWait(ctx, ring.Name, timeout, steps)
	}
	return errors.Join(err, t.show(last))
}

// endOfWait says why a wait ended, and what blocks.
func endOfWait(ctx context.Context, ring string, timeout time.Duration, steps []step) error {
	why := "the KeyRing could not be read"
	if undone := firstUndone(steps); undone != nil {
		why = undone.name + ": " + undone.text
	}
	if errors.Is(context.Cause(ctx), errBlocked) {
		return fmt.Errorf("KeyRing %s is %w after %s: %s. The controller goes on; repeat the command to wait again", ring, errBlocked, timeout, why)
	}
	return fmt.Errorf("the wait for KeyRing %s was interrupted (%s). The controller goes on; repeat the command to wait again", ring, why)
}
