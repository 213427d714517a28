// Package observe posts what the controller says about objects, at a pace that
// leaves the API server to more important things.
package observe

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/config"
)

// Signatures come first, see docs/design/0005-events.md: while more Events come
// per second than busyRate, a backlog is being signed, and they are posted at
// the slow rate; otherwise, and once it is done, at the fast one.
const (
	busyRate  = 50
	slowRate  = 5
	fastRate  = 100
	busyAfter = time.Second // how long after the last sign of a backlog it counts as over
	// maxPendingEvents bounds what waits, at about 1 kB each.
	maxPendingEvents = 50_000
)

// eventRetries is how long an Event is tried while the API server is away.
var eventRetries = wait.Backoff{Duration: time.Second, Factor: 2, Steps: 6, Cap: 30 * time.Second}

// Events posts Events in order, at its own pace. Client-go's recorder
// drops them when signatures come faster than Events can be posted.
type Events struct {
	events     typedcorev1.EventsGetter
	correlator *record.EventCorrelator // counts repeats in place of posting each
	pending    chan *corev1.Event
	arrivals   *rate.Limiter // refuses what comes faster than busyRate
	busyUntil  atomic.Int64  // Unix nanoseconds
	slow, fast *rate.Limiter
}

// NewEvents posts Events until the context ends.
func NewEvents(ctx context.Context) *Events {
	r := &Events{
		events:     kubeclient.Get(ctx).CoreV1(),
		correlator: record.NewEventCorrelator(clock.RealClock{}),
		pending:    make(chan *corev1.Event, maxPendingEvents),
		arrivals:   rate.NewLimiter(busyRate, busyRate),
		slow:       rate.NewLimiter(slowRate, slowRate),
		fast:       rate.NewLimiter(fastRate, fastRate/5),
	}
	go r.run(ctx)
	return r
}

// Record posts an Event later. It never waits.
func (r *Events) Record(ctx context.Context, about *corev1.ObjectReference, e Event) {
	now := metav1.Now()
	if !r.arrivals.Allow() {
		r.busyUntil.Store(now.Add(busyAfter).UnixNano())
	}
	full := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:      fmt.Sprintf("%s.%x", about.Name, now.UnixNano()), // as client-go names them
			Namespace: about.Namespace,
		},
		InvolvedObject: *about,
		Type:           e.Type, Reason: e.Reason, Message: e.Message,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source:              corev1.EventSource{Component: config.Group},
		ReportingController: config.Group,
	}
	select {
	case r.pending <- full:
	default:
		logging.FromContext(ctx).Warnw("Event dropped, too many wait", "about", about.Name, "reason", e.Reason)
	}
}

func (r *Events) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-r.pending:
			r.post(ctx, event)
		}
	}
}

// post writes one Event, or counts it up when it repeats an earlier one.
func (r *Events) post(ctx context.Context, event *corev1.Event) {
	correlated, err := r.correlator.EventCorrelate(event)
	if err == nil && correlated.Skip {
		return // too many about this object
	}
	if err == nil {
		err = wait.ExponentialBackoffWithContext(ctx, eventRetries, func(ctx context.Context) (bool, error) {
			if err := r.pace(ctx); err != nil {
				return false, err
			}
			stored, err := r.write(ctx, correlated)
			if err == nil {
				r.correlator.UpdateState(stored)
			}
			return err == nil, permanent(err)
		})
	}
	if err != nil && ctx.Err() == nil {
		logging.FromContext(ctx).Warnw("Event not posted", "about", event.InvolvedObject.Name, "reason", event.Reason, zap.Error(err))
	}
}

// pace waits for the time of the next Event.
func (r *Events) pace(ctx context.Context) error {
	if time.Now().UnixNano() < r.busyUntil.Load() {
		return r.slow.Wait(ctx)
	}
	return r.fast.Wait(ctx)
}

func (r *Events) write(ctx context.Context, e *record.EventCorrelateResult) (*corev1.Event, error) {
	client := r.events.Events(e.Event.Namespace)
	if e.Event.Count > 1 {
		stored, err := client.PatchWithEventNamespaceWithContext(ctx, e.Event, e.Patch)
		if !apierrors.IsNotFound(err) {
			return stored, err
		}
	}
	e.Event.ResourceVersion = "" // the one that was counted has expired
	return client.CreateWithEventNamespaceWithContext(ctx, e.Event)
}

// permanent is the error, if trying again does not help.
func permanent(err error) error {
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}
