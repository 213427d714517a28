// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"context"
	"fmt"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"knative.dev/pkg/logging"

	"time"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// The rates at which Events are posted, per second, and how many may be posted at
// once (docs/design/0005). An Event is one more write, so a backlog of signatures
// would run at the speed of both if Events were posted as fast as signatures.
const (
	normalRate, normalBurst   = 10, 100
	warningRate, warningBurst = 50, 100
)

// maxPending bounds the Events that wait in each lane, at about 300 bytes each.
const maxPending = 50_000

// eventRetries is how long posting an Event is retried while the API server is
// away.
var eventRetries = wait.Backoff{Duration: time.Second, Factor: 2, Steps: 6, Cap: 30 * time.Second}

// Events posts Events in order, at a limited rate. The recorder of client-go drops
// Events when signatures come faster than Events can be posted. Warnings have a
// lane of their own, so that a backlog of signatures does not delay them.
type Events struct {
	client           typedcorev1.EventsGetter
	correlator       *record.EventCorrelator // counts repeats instead of posting each
	normal, warnings chan pendingEvent
}

// pendingEvent waits to be posted.
type pendingEvent struct {
	about *corev1.ObjectReference
	event Event
	at    metav1.Time
}

// NewEvents returns Events that posts until the context ends.
func NewEvents(ctx context.Context, client typedcorev1.EventsGetter) *Events {
	e := &Events{
		client:     client,
		correlator: record.NewEventCorrelator(clock.RealClock{}),
		normal:     make(chan pendingEvent, maxPending),
		warnings:   make(chan pendingEvent, maxPending),
	}
	go e.run(ctx, e.normal, rate.NewLimiter(normalRate, normalBurst))
	go e.run(ctx, e.warnings, rate.NewLimiter(warningRate, warningBurst))
	return e
}

// Record posts an Event later. It does not wait.
func (e *Events) Record(ctx context.Context, about *corev1.ObjectReference, event Event) {
	lane := e.normal
	if event.Type == corev1.EventTypeWarning {
		lane = e.warnings
	}
	select {
	case lane <- pendingEvent{about, event, metav1.Now()}:
	default:
		logging.FromContext(ctx).Warnw("Event dropped, too many wait", "about", about.Name, "reason", event.Reason)
	}
}

func (e *Events) run(ctx context.Context, lane <-chan pendingEvent, limiter *rate.Limiter) {
	for {
		select {
		case <-ctx.Done():
			return
		case pending := <-lane:
			e.post(ctx, pending.full(), limiter)
		}
	}
}

// full returns the Event as the API server stores it. The time is that of the
// fact, not of the post.
func (p pendingEvent) full() *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:      fmt.Sprintf("%s.%x", p.about.Name, p.at.UnixNano()), // as client-go names Events
			Namespace: p.about.Namespace,
		},
		InvolvedObject: *p.about,
		Type:           p.event.Type, Reason: p.event.Reason, Message: p.event.Message,
		FirstTimestamp: p.at, LastTimestamp: p.at, Count: 1,
		Source:              corev1.EventSource{Component: v1alpha1.Group},
		ReportingController: v1alpha1.Group,
	}
}

// post writes one Event, or increments the count of an earlier Event that it
// repeats.
func (e *Events) post(ctx context.Context, event *corev1.Event, limiter *rate.Limiter) {
	correlated, err := e.correlator.EventCorrelate(event)
	if err == nil && correlated.Skip {
		return // too many about this object
	}
	if err == nil {
		err = wait.ExponentialBackoffWithContext(ctx, eventRetries, func(ctx context.Context) (bool, error) {
			if err := limiter.Wait(ctx); err != nil {
				return false, err
			}
			stored, err := e.write(ctx, correlated)
			if err == nil {
				e.correlator.UpdateState(stored)
			}
			return err == nil, permanent(err)
		})
	}
	if err != nil && ctx.Err() == nil {
		logging.FromContext(ctx).Warnw("Event not posted", "about", event.InvolvedObject.Name, "reason", event.Reason, zap.Error(err))
	}
}

func (e *Events) write(ctx context.Context, correlated *record.EventCorrelateResult) (*corev1.Event, error) {
	event := correlated.Event
	client := e.client.Events(event.Namespace)
	if event.Count > 1 {
		stored, err := client.PatchWithEventNamespaceWithContext(ctx, event, correlated.Patch)
		if !apierrors.IsNotFound(err) {
			return stored, err
		}
	}
	event.ResourceVersion = "" // the Event whose count was incremented has expired
	return client.CreateWithEventNamespaceWithContext(ctx, event)
}

// permanent returns the error if a retry cannot help, or else nil.
func permanent(err error) error {
	if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}
