// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
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

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

// The rates at which Events are posted, per second, and how many may be posted at
// once (docs/design/0005). An Event is one more write, so a backlog of signatures
// would run at the speed of both if Events were posted as fast as signatures.
const (
	normalRate, normalBurst     = 10, 100
	warningRate, warningBurst   = 50, 100
	operatorRate, operatorBurst = 10, 100
)

// droppedLogInterval is the least time between two log lines about dropped Events.
const droppedLogInterval = 10 * time.Second

// eventRetries is how long posting an Event is retried while the API server is
// away.
var eventRetries = wait.Backoff{Duration: time.Second, Factor: 2, Steps: 6, Cap: 30 * time.Second}

// Events posts Events at a limited rate, those of one namespace in order. The
// recorder of client-go drops Events when signatures come faster than Events can
// be posted. Each lane has its own rate and is fair between namespaces: a backlog
// of signatures does not delay warnings, and tenants delay neither each other's
// warnings nor the Events for the operator.
type Events struct {
	client     typedcorev1.EventsGetter
	correlator *record.EventCorrelator // counts repeats instead of posting each
	metrics    *metrics
	// operatorNamespace is the controller's own. Tenants cannot cause Events there.
	operatorNamespace          string
	normal, warnings, operator *lane

	droppedLog   rate.Sometimes
	droppedSince atomic.Int64 // Events that were dropped since the last log line
}

// pendingEvent waits to be posted.
type pendingEvent struct {
	about *corev1.ObjectReference
	event Event
	at    metav1.Time
}

// NewEvents returns Events that posts until the context ends. Events about objects
// of operatorNamespace have a lane of their own.
func NewEvents(ctx context.Context, client typedcorev1.EventsGetter, operatorNamespace string) (*Events, error) {
	m, err := newMetrics()
	if err != nil {
		return nil, err
	}
	e := &Events{
		client:            client,
		correlator:        record.NewEventCorrelator(clock.RealClock{}),
		metrics:           m,
		operatorNamespace: operatorNamespace,
		normal:            newLane(), warnings: newLane(), operator: newLane(),
		droppedLog: rate.Sometimes{Interval: droppedLogInterval},
	}
	go e.run(ctx, e.normal, rate.NewLimiter(normalRate, normalBurst))
	go e.run(ctx, e.warnings, rate.NewLimiter(warningRate, warningBurst))
	go e.run(ctx, e.operator, rate.NewLimiter(operatorRate, operatorBurst))
	return e, nil
}

// Record posts an Event later. It does not wait.
func (e *Events) Record(ctx context.Context, about *corev1.ObjectReference, event Event) {
	if dropped := e.lane(about, event).push(pendingEvent{about, event, metav1.Now()}); dropped != nil {
		e.reportDropped(ctx, dropped)
	}
}

func (e *Events) lane(about *corev1.ObjectReference, event Event) *lane {
	switch {
	case about.Namespace == e.operatorNamespace, about.Namespace == metav1.NamespaceNone:
		return e.operator
	case event.Type == corev1.EventTypeWarning:
		return e.warnings
	default:
		return e.normal
	}
}

// reportDropped counts each dropped Event, and logs one line for many: a tenant
// who causes too many Events must not fill the log instead.
func (e *Events) reportDropped(ctx context.Context, dropped *pendingEvent) {
	e.metrics.counters[eventsDropped].Add(ctx, 1, metric.WithAttributes(attribute.String("type", dropped.event.Type)))
	e.droppedSince.Add(1)
	e.droppedLog.Do(func() {
		logging.FromContext(ctx).Warnw("Events dropped, too many wait to be posted", "namespace", dropped.about.Namespace,
			"reason", dropped.event.Reason, "dropped", e.droppedSince.Swap(0))
	})
}

func (e *Events) run(ctx context.Context, from *lane, limiter *rate.Limiter) {
	for {
		if pending, ok := from.pop(); ok {
			e.post(ctx, pending.full(), limiter)
			if ctx.Err() != nil {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-from.arrived:
		}
	}
}

// full returns the Event as the API server stores it. The time is that of the
// fact, not of the post.
func (p pendingEvent) full() *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name:      fmt.Sprintf("%s.%x", p.about.Name, p.at.UnixNano()), // as client-go names Events
			Namespace: cmp.Or(p.about.Namespace, metav1.NamespaceDefault),  // Events on objects without a namespace are there
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
