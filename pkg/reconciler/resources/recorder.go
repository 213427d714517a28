package resources

import (
	"context"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/config"
)

const (
	// eventRate is how many Events are posted per second. Signatures come
	// first: a backlog of them is told of after the fact, see
	// docs/design/0005-events.md.
	eventRate  = 50
	eventBurst = 100
	// maxPendingEvents bounds what waits, at a few hundred bytes each.
	maxPendingEvents = 50_000
)

// eventRecorder posts Events in order, at its own pace. Client-go's recorder
// drops them when more than a thousand wait.
type eventRecorder struct {
	pending chan event
}

// newEventRecorder posts Events until the context ends.
func newEventRecorder(ctx context.Context) *eventRecorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: kubeclient.Get(ctx).CoreV1().Events("")})
	r := &eventRecorder{pending: make(chan event, maxPendingEvents)}
	go r.post(ctx, broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: config.Group}))
	return r
}

func (r *eventRecorder) post(ctx context.Context, recorder record.EventRecorder) {
	limiter := rate.NewLimiter(eventRate, eventBurst)
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.pending:
			if limiter.Wait(ctx) != nil {
				return
			}
			recorder.Event(e.about, e.kind, e.reason, e.message)
		}
	}
}

// record posts an Event later. It never waits.
func (r *eventRecorder) record(ctx context.Context, e event) {
	select {
	case r.pending <- e:
	default:
		logging.FromContext(ctx).Warnw("Event dropped, too many wait", "reason", e.reason, "message", e.message)
	}
}

// event is what is said about an object.
type event struct {
	about                 runtime.Object
	kind, reason, message string
}
