// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// trust is what a look at the policies says of the target of a ring.
type trust struct {
	key string // name
	// concerned is the number of policies that trust another key, unready are those of them
	// that do not trust the target.
	concerned int
	unready   []v1alpha1.PolicyReference
	// notKnown are the names of other keys of which not even the public half is known.
	notKnown []string
}

// blocking returns the unready policies that the owner of the ring has not accepted.
func (t trust) blocking(accept []v1alpha1.PolicyReference) []v1alpha1.PolicyReference {
	return slices.DeleteFunc(slices.Clone(t.unready), func(p v1alpha1.PolicyReference) bool { return slices.Contains(accept, p) })
}

// condition returns the condition Trusted.
func (t trust) condition(accept []v1alpha1.PolicyReference) metav1.Condition {
	blocking := t.blocking(accept)
	accepted := slices.DeleteFunc(slices.Clone(t.unready), func(p v1alpha1.PolicyReference) bool { return slices.Contains(blocking, p) })
	message := fmt.Sprintf("%d of %d policies that trust another key trust key %q", t.concerned-len(t.unready), t.concerned, t.key)
	if len(accepted) > 0 {
		message += fmt.Sprintf("; %d accepted unready: %s", len(accepted), list(accepted))
	}
	switch {
	case len(blocking) > 0:
		return trustedCondition(metav1.ConditionFalse, v1alpha1.PoliciesBehind, message+"; not ready: "+list(blocking))
	case len(t.notKnown) > 0:
		return trustedCondition(metav1.ConditionUnknown, v1alpha1.PoliciesNotKnown,
			fmt.Sprintf("%s; not known of policies that trust these keys, whose public half is not known: %s", message, strings.Join(t.notKnown, ", ")))
	}
	return trustedCondition(metav1.ConditionTrue, v1alpha1.PoliciesReady, message)
}

func trustedCondition(status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.KeyRingTrusted, Status: status, Reason: reason, Message: message}
}

// notLooked returns the condition Trusted of a ring whose policies were not asked.
func notLooked(status *v1alpha1.KeyRingStatus, err error) metav1.Condition {
	switch {
	case err != nil:
		return trustedCondition(metav1.ConditionUnknown, v1alpha1.PoliciesNotKnown, err.Error())
	case status.Target == "":
		return trustedCondition(metav1.ConditionUnknown, v1alpha1.NoTarget, "no key is to sign")
	}
	return trustedCondition(metav1.ConditionUnknown, v1alpha1.OtherKeyRevoked,
		fmt.Sprintf("the key that signed before key %q is revoked; the controller does not ask which policies trust that key", status.Target))
}

// seeing returns the condition Seen while a canary with a signature of a key waits.
func seeing(key string) metav1.Condition {
	return seenCondition(metav1.ConditionUnknown, v1alpha1.CanaryWaits, fmt.Sprintf("a canary with a signature of key %q waits for Tekton's controller", key))
}

// seenAfter returns the condition Seen after a canary with a signature of a key.
func seenAfter(key string, took time.Duration, err error) metav1.Condition {
	if err != nil {
		return seenCondition(metav1.ConditionFalse, v1alpha1.CanaryNotVerified, err.Error())
	}
	return seenCondition(metav1.ConditionTrue, v1alpha1.CanaryVerified,
		fmt.Sprintf("Tekton's controller verified a canary with a signature of key %q after %s", key, took.Round(100*time.Millisecond)))
}

func seenCondition(status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: v1alpha1.KeyRingSeen, Status: status, Reason: reason, Message: message}
}

// notSeen returns the condition Seen of a ring whose target has no canary yet.
func notSeen(status *v1alpha1.KeyRingStatus) metav1.Condition {
	if status.Target == "" {
		return seenCondition(metav1.ConditionUnknown, v1alpha1.NoTarget, "no key is to sign")
	}
	return seenCondition(metav1.ConditionUnknown, v1alpha1.NotReached, fmt.Sprintf("there was no canary with a signature of key %q since the key is the target", status.Target))
}

// keepSeen keeps the result of the last canary, if the canary was about the present target.
func keepSeen(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus) {
	last := meta.FindStatusCondition(status.Conditions, v1alpha1.KeyRingSeen)
	if last == nil || ring.Status.Target != status.Target {
		setCondition(ring, status, notSeen(status))
		return
	}
	setCondition(ring, status, *last)
}

// isNews reports that who waits for the target to be trusted waits for another status.
func isNews(before, status *v1alpha1.KeyRingStatus) bool {
	was, is := meta.FindStatusCondition(before.Conditions, v1alpha1.KeyRingTrusted), meta.FindStatusCondition(status.Conditions, v1alpha1.KeyRingTrusted)
	return before.Target != status.Target || was == nil || was.Status != is.Status || was.ObservedGeneration != is.ObservedGeneration
}

func setCondition(ring *v1alpha1.KeyRing, status *v1alpha1.KeyRingStatus, condition metav1.Condition) {
	condition.ObservedGeneration = ring.Generation
	meta.SetStatusCondition(&status.Conditions, condition)
}
