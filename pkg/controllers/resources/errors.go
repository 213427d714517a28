// SPDX-License-Identifier: Apache-2.0

package resources

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/audit"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/tekton"
)

var (
	// ErrStoring means that storing a resource in the registry failed.
	ErrStoring = errors.New("storing in the registry failed")
	// ErrDisputed means that another writer changes a resource each time that it is
	// signed.
	ErrDisputed = errors.New("another writer changes this resource each time that it is signed " +
		"(most likely a mutating admission webhook); exempt the writer of the annotation from the webhook, " +
		"or exclude the namespace from signing")
)

// consequence is what follows from one kind of error.
type consequence struct {
	matches func(error) bool
	// reason is the reason of the Event and the metric. Empty: neither.
	reason string
	// waits: a retry cannot help. A change (of the key, the release, the resource)
	// brings the resource back. Otherwise the work queue retries with back-off.
	waits bool
}

// consequences are tried in order. An error that matches none is a temporary fault
// of the API server: it is retried without an Event.
var consequences = []consequence{
	{matches: wraps(keys.ErrNoKey), reason: v1alpha1.ReasonNoKey, waits: true},
	{matches: wraps(tekton.ErrTooOld), reason: v1alpha1.ReasonTektonTooOld, waits: true},
	{matches: wraps(tekton.ErrUnread), reason: v1alpha1.ReasonTektonUnknown, waits: true},
	{matches: wraps(decision.ErrKeyRevoked), reason: v1alpha1.ReasonKeyRevoked, waits: true},
	{matches: wraps(decision.ErrOtherTekton), reason: v1alpha1.ReasonOtherTekton, waits: true},
	{matches: wraps(decision.ErrNotAuthorized), reason: v1alpha1.ReasonNotAuthorized, waits: true},
	{matches: wraps(decision.ErrRequesterUnknown), waits: true}, // for a second after the setting has changed
	{matches: wraps(decision.ErrRequesterUnsafe), reason: v1alpha1.ReasonRequesterUnsafe, waits: true},
	{matches: wraps(observe.ErrPanicked), reason: v1alpha1.ReasonPanicked},
	{matches: wraps(decision.ErrUndecided), reason: v1alpha1.ReasonUndecided},
	{matches: wraps(audit.ErrNotWritten), reason: v1alpha1.ReasonAuditFailed},
	{matches: wraps(keys.ErrSigner), reason: v1alpha1.ReasonSignerFailed},
	{matches: wraps(ErrStoring), reason: v1alpha1.ReasonNotStored}, // before the errors of the API server that it may wrap
	{matches: wraps(ErrDisputed), reason: v1alpha1.ReasonDisputed, waits: true},
	// The state that was signed is not the newest any more. The watch delivers the
	// newest state.
	{matches: apierrors.IsConflict, waits: true},
	{matches: apierrors.IsNotFound, waits: true},
	{matches: refused, reason: v1alpha1.ReasonRefused},
}

func wraps(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// refused reports that the API server or an admission webhook refused the write,
// as opposed to being unable to process the request.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) ||
		apierrors.IsRequestEntityTooLargeError(err)
}

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

var _ Emitter = (*observe.Emitter)(nil)

// Conclude reports an error about a resource and returns the error that makes the
// work queue do what follows from it.
func Conclude(ctx context.Context, emitter Emitter, r *resource.Summary, err error) error {
	if again, _ := controller.IsRequeueKey(err); again {
		return err
	}
	for _, c := range consequences {
		if !c.matches(err) {
			continue
		}
		if c.reason != "" {
			emitter.Emit(ctx, c.fact(r, err))
		}
		if busy, ok := errors.AsType[*registry.BusyError](err); ok {
			return controller.NewRequeueAfter(busy.After)
		}
		if c.waits {
			return controller.NewSkipKey(r.Key().String())
		}
		return err
	}
	return err
}

func (c consequence) fact(r *resource.Summary, err error) observe.Fact {
	failed := observe.NotSigned{Resource: r, Reason: c.reason, Err: err, Logged: c.waits || c.reason == v1alpha1.ReasonPanicked}
	if c.reason == v1alpha1.ReasonNotStored {
		return observe.NotStored(failed)
	}
	return failed
}

// parseKey reads a key of a work queue.
func parseKey(key string) (types.NamespacedName, error) {
	name, err := cache.ParseObjectName(key)
	if err != nil {
		return types.NamespacedName{}, controller.NewPermanentError(err)
	}
	return name.AsNamespacedName(), nil
}
