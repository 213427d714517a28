// Package resources signs Tasks, Pipelines and StepActions as they come, and
// stores them: two reconcilers, with an instance of each for each kind.
package resources

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/util/flowcontrol"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/config"
	"github.com/trusted-resources/chains-extension/pkg/decision"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/store/annotation"
)

// Reconciler keeps the resources of one kind signed where they are.
type Reconciler struct {
	*base

	patcher annotation.Patcher
	// disputes holds back from resources that something else changes whenever
	// they are signed, so that the two do not write forever.
	disputes *flowcontrol.Backoff
}

var _ controller.Reconciler = (*Reconciler)(nil)

// Reconcile signs the resource with this key ("namespace/name") if need be.
func (r *Reconciler) Reconcile(ctx context.Context, key string) error {
	obj, err := r.get(key)
	if err != nil {
		return controller.NewPermanentError(err)
	}
	if obj == nil || !r.config().Stores(r.kind, config.StorageTekton) {
		return controller.NewSkipKey(key)
	}
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	if err := r.sign(ctx, key, obj); err != nil {
		return r.conclude(ctx, key, obj, err)
	}
	return controller.NewSkipKey(key) // a signature has its own log line
}

// sign brings the signature of obj up to date.
func (r *Reconciler) sign(ctx context.Context, key string, obj resource.Object) error {
	plan, err := r.plan(ctx, obj)
	if err != nil {
		return err
	}
	if plan.Reason == decision.NotNeeded {
		return nil
	}
	if now := r.disputes.Clock.Now(); r.disputes.IsInBackOffSinceUpdate(key, now) {
		return controller.NewRequeueAfter(r.disputes.Get(key))
	}
	signature, err := plan.Sign(ctx)
	if err != nil {
		return err
	}
	stored, err := annotation.Put(ctx, r.patcher, obj, signature)
	if err != nil {
		return err
	}
	r.tellSigned(ctx, stored, plan)
	return r.settled(ctx, key, stored, plan.Checksum)
}

// settled checks that what was stored is what was signed: a mutating webhook
// can have changed more than the annotation.
func (r *Reconciler) settled(ctx context.Context, key string, stored resource.Object, signed []byte) error {
	checksum, err := resource.Checksum(ctx, stored)
	if err != nil {
		return err
	}
	if bytes.Equal(checksum, signed) {
		r.disputes.DeleteEntry(key)
		return nil
	}
	r.disputes.Next(key, r.disputes.Clock.Now())
	return fmt.Errorf("%w: signed content with checksum %x, stored was %x", errDispute, signed, checksum)
}

// tellSigned reports one signature as Event, log line and metric.
func (r *Reconciler) tellSigned(ctx context.Context, obj resource.Object, plan decision.Plan) {
	r.events.Record(ctx, reference(r.kind, obj), signedEvent(plan))
	r.metrics.Signed(ctx, r.kind, string(plan.Reason))
	logging.FromContext(ctx).Infow("Resource signed", append(r.describe(obj),
		"reason", plan.Reason, "keyId", plan.Key.ID, "checksum", fmt.Sprintf("%x", plan.Checksum))...)
}

const (
	// signTimeout bounds one signature, calls to a KMS and the API server included.
	signTimeout       = time.Minute
	firstDisputeDelay = time.Second
	maxDisputeDelay   = 5 * time.Minute
)
