package resources

import (
	"context"
	"errors"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/keys"
	"github.com/trusted-resources/chains-extension/pkg/oci/registry"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

var (
	errRelease = errors.New("the installed release of Tekton Pipelines cannot verify our signatures")
	errStoring = errors.New("the registry does not have it")
	errDispute = errors.New("something else changes this resource whenever it is signed " +
		"(most likely a mutating admission webhook); exempt the annotation's writer, or opt the namespace out")
)

// failure is what follows from one kind of error.
type failure struct {
	is func(error) bool
	// reason is the reason of the Event and the metric; empty: neither.
	reason string
	// waits: something else brings the resource back when it is worth another
	// try (a new key, release, version of the resource). Otherwise it is tried
	// again with back-off.
	waits bool
}

// failures are tried in order; an error that matches none is a passing fault
// of the API server, retried without an Event.
var failures = []failure{
	{is: wraps(keys.ErrNoKey), reason: ReasonNoKey, waits: true},
	{is: wraps(errRelease), reason: ReasonTektonTooOld, waits: true},
	{is: wraps(decision.ErrUndecided), reason: ReasonUndecided},
	{is: wraps(keys.ErrSigner), reason: ReasonSignerFailed},
	{is: wraps(errStoring), reason: ReasonNotStored}, // whatever the API server has to do with it
	{is: wraps(errDispute), reason: ReasonDisputed, waits: true},
	// The state that was signed is not the newest any more; the newest is on
	// its way to us.
	{is: apierrors.IsConflict, waits: true},
	{is: apierrors.IsNotFound, waits: true},
	{is: refused, reason: ReasonRefused},
}

func wraps(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// refused says that the API server or an admission webhook will not have the
// write, as opposed to not having been able to take it.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) ||
		apierrors.IsRequestEntityTooLargeError(err)
}

// conclude turns an error into what the work queue does next, and tells about
// it.
func (b *base) conclude(ctx context.Context, key string, obj resource.Object, err error) error {
	if again, _ := controller.IsRequeueKey(err); again {
		return err
	}
	if errors.Is(err, keys.ErrSigner) {
		b.invalidate(b.config().Signer(b.kind))
	}
	for _, f := range failures {
		if !f.is(err) {
			continue
		}
		if f.reason != "" {
			b.events.Record(ctx, reference(b.kind, obj), failedEvent(f.reason, err))
			b.metrics.Failed(ctx, b.kind, f.reason)
		}
		if busy, ok := errors.AsType[*registry.BusyError](err); ok {
			return controller.NewRequeueAfter(busy.After)
		}
		if !f.waits {
			return err
		}
		if f.reason != "" {
			logging.FromContext(ctx).Warnw("Resource not signed", append(b.describe(obj), "reason", f.reason, zap.Error(err))...)
		}
		return controller.NewSkipKey(key)
	}
	return err
}
