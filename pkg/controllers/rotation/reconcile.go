// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/rings"
	"github.com/trusted-resources/chains-extension/pkg/keyring"
	"github.com/trusted-resources/chains-extension/pkg/keys"
)

// settled is how long after the activation of a key the older key may still make a
// signature: a replica may have read the KeyRing the Fence ago, and then have waited for
// its KMS for a minute.
const settled = rings.Fence + 90*time.Second

// reconcile brings the status of a ring up to date, and takes the next step if nothing
// blocks it.
func (c *Controller) reconcile(ctx context.Context, ring *v1alpha1.KeyRing) error {
	loaded := c.Keys.Load(ctx, ring)
	status := keyring.Observe(ring, loaded, c.Clock.Now())
	keepSeen(ring, &status)
	c.setVersions(ring, &status)
	ids, err := attestationKeys(c.Legacy(), c.RunSigners())
	setCondition(ring, &status, separate(&status, ids, err))
	step, name := keyring.Next(ring, &status, loaded)
	published := c.publish(ctx, ring, &status) // first: after a theft, each second counts
	c.count(ring.Name, &status, step != keyring.Done || isReplacing(ring, &status))
	var blocking error
	if step == keyring.Untrust && published != nil { // a policy may still have the key
		blocking = published
	} else {
		status, blocking = c.take(ctx, ring, status, step, name)
	}
	if step != keyring.Activating { // which has looked at the policies itself
		if err := c.notice(ctx, ring, &status); err != nil {
			return err
		}
	}
	step, name = keyring.Next(ring, &status, loaded)
	setConditions(ring, &status, step, name, cmp.Or(blocking, published), c.Clock.Now())
	if err := c.write(ctx, ring, status); err != nil {
		return err
	}
	if err := c.recordVersions(ctx, ring); err != nil {
		return err
	}
	if isWaiting(blocking) {
		blocking = nil
	}
	return errors.Join(blocking, published)
}

// take takes a step, and returns the status after it. The error says why the step was not
// taken.
func (c *Controller) take(
	ctx context.Context, ring *v1alpha1.KeyRing, status v1alpha1.KeyRingStatus, step keyring.Step, name string,
) (v1alpha1.KeyRingStatus, error) {
	switch step {
	case keyring.Activating:
		return c.activate(ctx, ring, status)
	case keyring.Drain:
		if err := c.drained(ctx, ring, keyring.StatusOf(&status, name)); err != nil {
			return status, err
		}
		return keyring.Retire(status, name), nil
	case keyring.Untrust:
		return c.untrust(ctx, ring, status, name)
	case keyring.NoTarget, keyring.Load, keyring.Pause, keyring.Done: // something has to change first
	}
	return status, nil
}

// write stores the status if it has changed, also in ring. The API server refuses it if the
// ring has changed since it was read.
func (c *Controller) write(ctx context.Context, ring *v1alpha1.KeyRing, status v1alpha1.KeyRingStatus) error {
	if equality.Semantic.DeepEqual(ring.Status, status) {
		return nil
	}
	next := ring.DeepCopy()
	next.Status = *status.DeepCopy()
	stored, err := c.Client.UpdateStatus(ctx, next, metav1.UpdateOptions{FieldManager: v1alpha1.Group})
	if err != nil {
		return err
	}
	before := ring.Status
	ring.Status, ring.ResourceVersion = next.Status, stored.ResourceVersion
	c.report(ctx, ring, &before)
	if before.Active != status.Active {
		c.Rings.Read(ctx) // sign with it now
	}
	return nil
}

// activate makes a key active if every policy that trusts another key of the ring trusts
// the key, and Tekton's controller has seen that. Where no key is active, the newest such
// key becomes active.
func (c *Controller) activate(ctx context.Context, ring *v1alpha1.KeyRing, status v1alpha1.KeyRingStatus) (v1alpha1.KeyRingStatus, error) {
	var first error
	for _, name := range keyring.Candidates(ring, &status) {
		next, err := c.ready(ctx, ring, &status, name)
		if err == nil {
			err = c.see(ctx, ring, &status, name, next)
		} else if name == status.Target {
			setCondition(ring, &status, notSeen(&status))
		}
		if err == nil {
			return keyring.Activate(status, name, c.Clock.Now()), nil
		}
		if first == nil {
			first = err
		}
		if !isWaiting(err) {
			break
		}
	}
	return status, first
}

// see returns nil once Tekton's controller has seen the policies that are there now. While it
// waits, the status says that the policies are ready.
func (c *Controller) see(ctx context.Context, ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus, name string, next *keys.Key) error {
	if name != status.Target {
		return c.canary.seen(ctx, next)
	}
	if isNews(&ring.Status, status) {
		setCondition(ring, status, seeing(name))
		setConditions(ring, status, keyring.Activating, name, nil, c.Clock.Now())
		if err := c.write(ctx, ring, *status); err != nil {
			return err
		}
	}
	began := c.Clock.Now()
	err := c.canary.seen(ctx, next)
	setCondition(ring, status, seenAfter(name, c.Clock.Since(began), err))
	return err
}

// isEmergency reports that the active key was revoked.
func isEmergency(status *v1alpha1.KeyRingStatus) bool {
	return status.Active == "" && slices.ContainsFunc(status.Keys, func(key v1alpha1.RingKeyStatus) bool {
		return key.State == v1alpha1.KeyRevoked && key.ActiveSince != nil
	})
}

// untrust waits until no policy with injected keys trusts a key, and Tekton's controller
// has seen that.
func (c *Controller) untrust(ctx context.Context, ring *v1alpha1.KeyRing, status v1alpha1.KeyRingStatus, name string) (v1alpha1.KeyRingStatus, error) {
	if err := c.stillInjected(ctx, ring, keyring.StatusOf(&status, name)); err != nil {
		return status, err
	}
	ephemeral, err := keys.NewEphemeral(ctx) // in an emergency, the ring may have no key left
	if err != nil {
		return status, err
	}
	if err := c.canary.seen(ctx, ephemeral); err != nil {
		return status, err
	}
	return keyring.Untrusted(status, name, c.Clock.Now()), nil
}

func list(policies []v1alpha1.PolicyReference) string {
	listed := names(policies[:min(len(policies), maxListed)])
	if more := len(policies) - len(listed); more > 0 {
		listed = append(listed, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(listed, ", ")
}

func names(policies []v1alpha1.PolicyReference) []string {
	all := make([]string, 0, len(policies))
	for _, p := range policies {
		if p.Namespace == "" {
			all = append(all, "ClusterVerificationPolicy "+p.Policy)
			continue
		}
		all = append(all, p.Namespace+"/"+p.Policy)
	}
	return all
}

// setConditions sets the conditions of a ring.
func setConditions(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus, step keyring.Step, name string, blocking error, now time.Time) {
	why := problemOf(status, name)
	if blocking != nil {
		why = blocking.Error()
	}
	ready := metav1.Condition{Type: v1alpha1.KeyRingReady, Status: metav1.ConditionTrue, Reason: "KeyActive", Message: fmt.Sprintf("key %q signs", status.Active)}
	switch active := keyring.StatusOf(status, status.Active); {
	case active == nil:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "NoActiveKey", "no key signs: "+cmp.Or(why, string(step))
	case active.Problem != "":
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "KeyUnusable", fmt.Sprintf("key %q: %s", active.Name, active.Problem)
	}
	rotated := metav1.Condition{Type: v1alpha1.KeyRingRotated, Status: metav1.ConditionFalse, Reason: string(step), Message: why}
	if step == keyring.Done {
		rotated.Status, rotated.Message = metav1.ConditionTrue, fmt.Sprintf("key %q signs, and no older key of the ring is trusted", name)
	}
	due := metav1.Condition{Type: v1alpha1.KeyRingRotationDue, Status: metav1.ConditionFalse, Reason: "NotDue"}
	after, active := ring.Spec.Rotation.RotateAfter, keyring.StatusOf(status, status.Active)
	if after != nil && active != nil && active.ActiveSince != nil && now.Sub(active.ActiveSince.Time) >= after.Duration {
		due.Status, due.Reason = metav1.ConditionTrue, "RotateAfter"
		due.Message = fmt.Sprintf("key %q signs since %s; rotateAfter is %s", active.Name, active.ActiveSince.Format(time.RFC3339), after.Duration)
	}
	for _, condition := range []metav1.Condition{ready, rotated, due} {
		setCondition(ring, status, condition)
	}
}

func problemOf(status *v1alpha1.KeyRingStatus, name string) string {
	if key := keyring.StatusOf(status, name); key != nil {
		return key.Problem
	}
	return ""
}
