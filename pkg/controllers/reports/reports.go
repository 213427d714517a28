// SPDX-License-Identifier: Apache-2.0

// Package reports writes verdicts into objects of the kind Report of openreports.io, which
// tools such as Policy Reporter show (docs/design/0037).
package reports

import (
	"context"
	"sync"
	"time"

	client "github.com/openreports/reports-api/pkg/client/clientset/versioned/typed/openreports.io/v1alpha1"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

const (
	workers = 4
	// timeout bounds the work on one namespace.
	timeout = 30 * time.Second
	// interval is the least time between two writes of one namespace, and between two tries
	// while the API server takes no Reports.
	interval = time.Minute
	// settle is the time from the first verdict to the write: a run has several verdicts.
	settle = 2 * time.Second

	// everywhere stands for all namespaces in the queue: the Reports are deleted.
	everywhere = metav1.NamespaceAll
)

// Emitter emits facts.
type Emitter interface {
	Emit(ctx context.Context, f observe.Fact)
}

// Inputs are what a Writer works with.
type Inputs struct {
	Client client.ReportsGetter
	// Metadata finds and deletes Reports, whose content can be large.
	Metadata metadata.Interface
	// Owner is the namespace of the controller.
	Owner string
	// Scope returns the namespaces that the controller is limited to; empty for all.
	Scope   []string
	Emitter Emitter
	// About returns the object of Events about all Reports.
	About func(ctx context.Context) *corev1.ObjectReference
}

// Writer writes Reports. Each replica writes the verdicts that it has reached into the
// Reports that exist. A Writer is safe for concurrent use.
type Writer struct {
	Inputs

	queue   workqueue.TypedDelayingInterface[string]
	writing sync.RWMutex // locked while Reports are deleted

	mu      sync.Mutex // guards the fields below
	enabled bool
	pending pending
	refused string    // why the API server takes no Reports; empty if it does
	resume  time.Time // when to try again
}

// New returns a Writer that writes nothing before Configure.
func New(in Inputs) *Writer {
	return &Writer{Inputs: in, queue: workqueue.NewTypedDelayingQueue[string](), pending: newPending()}
}

// Configure says whether verdicts are reported. When they are not any more, all Reports are
// deleted.
func (w *Writer) Configure(enabled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.enabled && !enabled {
		w.pending.clear()
		w.queue.Add(everywhere)
	}
	w.enabled = enabled
}

// Add reports a verdict some time later. It does not wait.
func (w *Writer) Add(ctx context.Context, v observe.Verified) {
	if dropped, first := w.add(&v); dropped {
		w.Emitter.Emit(ctx, observe.VerdictNotReported{Namespace: v.Run.Namespace, First: first})
	}
}

func (w *Writer) add(v *observe.Verified) (dropped, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.enabled {
		return false, false
	}
	made, ok := newVerdict(v, time.Now())
	if !ok {
		return false, false
	}
	namespace := v.Run.Namespace
	if !w.pending.scheduled(namespace) {
		w.queue.AddAfter(namespace, settle)
	}
	return w.pending.add(namespace, v.Kind, made)
}

// Run works until the context ends.
func (w *Writer) Run(ctx context.Context) {
	var group wait.Group
	for range workers {
		group.StartWithContext(ctx, func(ctx context.Context) {
			for w.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	w.queue.ShutDown()
	group.Wait()
}

func (w *Writer) next(ctx context.Context) bool {
	namespace, shutdown := w.queue.Get()
	if shutdown {
		return false
	}
	defer w.queue.Done(namespace)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	work := w.writeNamespace
	if namespace == everywhere {
		work = func(ctx context.Context, _ string) { w.deleteAll(ctx) }
	}
	err := observe.Guard(func() error {
		work(ctx, namespace)
		return nil
	})
	if err != nil {
		logging.FromContext(ctx).Errorw("Reports not written", "namespace", namespace, zap.Error(err))
	}
	return true
}

// writeNamespace writes what waits for a namespace, and comes back after the interval.
func (w *Writer) writeNamespace(ctx context.Context, namespace string) {
	w.writing.RLock()
	defer w.writing.RUnlock()
	taken, delay := w.take(namespace)
	if delay == 0 {
		return
	}
	defer w.queue.AddAfter(namespace, delay)
	for kind, verdicts := range taken {
		w.conclude(ctx, namespace, kind, verdicts, w.write(ctx, namespace, kind, verdicts))
	}
}

// take returns the verdicts of a namespace, and when to look at the namespace again; 0 for
// never.
func (w *Writer) take(namespace string) (batch, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wait := time.Until(w.resume); wait > 0 && w.enabled {
		return nil, wait
	}
	taken := w.pending.take(namespace)
	if len(taken) == 0 {
		return nil, 0
	}
	return taken, interval
}

// giveBack keeps verdicts for the next write.
func (w *Writer) giveBack(namespace string, kind resource.Kind, verdicts map[resourceID]verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.enabled {
		w.pending.giveBack(namespace, kind, verdicts)
	}
}
