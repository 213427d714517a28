// SPDX-License-Identifier: Apache-2.0

// Package materializing writes ClusterVerificationPolicies into namespaces as
// VerificationPolicies of Tekton, where a policy asks for that (docs/design/0034).
package materializing

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	tekton "github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	tektonclient "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1alpha1"
	tektonlisters "github.com/tektoncd/pipeline/pkg/client/listers/pipeline/v1alpha1"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/pkg/logging"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/observe"
	"github.com/trusted-resources/chains-extension/pkg/policy"
)

const (
	workers = 16
	// timeout bounds the work on one namespace.
	timeout = 30 * time.Second

	firstRetry, maxRetryDelay = 200 * time.Millisecond, 30 * time.Second
)

// Policies are the ClusterVerificationPolicies in force.
type Policies interface {
	// Materialized returns what is to be materialized in a namespace that has, besides, own
	// policies.
	Materialized(namespace *corev1.Namespace, own []*tekton.VerificationPolicy) ([]policy.Materialized, error)
	// MaterializedNow is Materialized with the policies and the labels that the API server
	// has now.
	MaterializedNow(ctx context.Context, namespace string, own []*tekton.VerificationPolicy) ([]policy.Materialized, error)
	// ModeOf returns the mode of a namespace with these labels.
	ModeOf(namespace map[string]string) string
}

// Inputs are what a Writer works with.
type Inputs struct {
	Policies   Policies
	Client     tektonclient.VerificationPoliciesGetter
	Objects    tektonlisters.VerificationPolicyLister
	Namespaces corev1listers.NamespaceLister
	// Scope returns the namespaces that the controller is limited to; none for all.
	Scope []string
}

// Writer writes and deletes VerificationPolicies. It is safe for concurrent use.
type Writer struct {
	Inputs

	queue   workqueue.TypedRateLimitingInterface[string]
	covered atomic.Bool

	mu      sync.Mutex
	states  map[string][]state // by namespace
	changed func()
}

// state is what is known of one policy in one namespace.
type state struct {
	policy string
	synced bool
	// reason and message say why the namespace does not have the VerificationPolicy.
	reason, message string
}

// New returns a Writer.
func New(in Inputs) *Writer {
	return &Writer{
		Inputs: in, states: map[string][]state{}, changed: func() {},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, maxRetryDelay)),
	}
}

// Run works until the context ends, while leads returns true. changed is called when there is
// something new to say of a policy.
func (w *Writer) Run(ctx context.Context, leads func() bool, changed func()) {
	w.mu.Lock()
	w.changed = changed
	w.mu.Unlock()
	var group wait.Group
	for range workers {
		group.StartWithContext(ctx, func(ctx context.Context) {
			for w.next(ctx, leads) {
			}
		})
	}
	<-ctx.Done()
	w.queue.ShutDown()
	group.Wait()
}

// Look looks at a namespace soon, or at all of them (empty).
func (w *Writer) Look(namespace string) {
	if namespace != "" {
		w.queue.Add(namespace)
		return
	}
	found, err := w.Namespaces.List(labels.Everything())
	if err != nil {
		return // not possible: a cache always answers
	}
	for _, ns := range found {
		w.queue.Add(ns.Name)
	}
}

// SetCovered says whether the gate is in force by the last state of the policies. Before, no
// VerificationPolicy is withdrawn because another policy comes first.
func (w *Writer) SetCovered(covered bool) {
	if w.covered.Swap(covered) != covered && covered {
		w.Look("")
	}
}

func (w *Writer) next(ctx context.Context, leads func() bool) bool {
	namespace, shutdown := w.queue.Get()
	if shutdown {
		return false
	}
	defer w.queue.Done(namespace)
	if !leads() { // the next leader looks at all namespaces
		w.queue.Forget(namespace)
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := observe.Guard(func() error { return w.sync(ctx, namespace) }); err != nil {
		logging.FromContext(ctx).Warnw("Cannot materialize ClusterVerificationPolicies", "namespace", namespace, zap.Error(err))
		w.queue.AddRateLimited(namespace)
		return true
	}
	w.queue.Forget(namespace)
	return true
}

// sync brings the VerificationPolicies of a namespace up to date.
func (w *Writer) sync(ctx context.Context, name string) error {
	ns := w.active(name)
	if ns == nil || !w.inScope(name) {
		w.setStates(name, nil)
		return nil
	}
	found, err := w.Objects.VerificationPolicies(name).List(labels.Everything())
	if err != nil {
		return err
	}
	wanted, err := w.Policies.Materialized(ns, policy.Own(found))
	if err != nil {
		return err
	}
	covered := w.covered.Load() && w.Policies.ModeOf(ns.Labels) == v1alpha1.VerifyEnforce
	p, err := planOf(wanted, found, covered)
	if err != nil {
		return err
	}
	err = w.carryOut(ctx, name, p)
	w.setStates(name, p.statesAfter(err))
	return err
}

// active returns a namespace, or nil if it is gone or is being deleted.
func (w *Writer) active(name string) *corev1.Namespace {
	ns, err := w.Namespaces.Get(name)
	if err != nil || ns.DeletionTimestamp != nil {
		return nil
	}
	return ns
}

func (w *Writer) inScope(namespace string) bool {
	return len(w.Scope) == 0 || slices.Contains(w.Scope, namespace)
}

func (w *Writer) setStates(namespace string, states []state) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Equal(w.states[namespace], states) {
		return
	}
	if len(states) == 0 {
		delete(w.states, namespace)
	} else {
		w.states[namespace] = states
	}
	w.changed()
}

// Of returns how many namespaces have the VerificationPolicy of a ClusterVerificationPolicy,
// and those that do not, by name. Namespaces that are being deleted do not count.
func (w *Writer) Of(clusterPolicy string) (synced int32, not []v1alpha1.PolicyNamespace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for namespace, states := range w.states {
		if w.active(namespace) == nil {
			continue
		}
		for _, s := range states {
			switch {
			case s.policy != clusterPolicy:
			case s.synced:
				synced++
			default:
				not = append(not, v1alpha1.PolicyNamespace{Namespace: namespace, Reason: s.reason, Message: s.message})
			}
		}
	}
	slices.SortFunc(not, func(a, b v1alpha1.PolicyNamespace) int { return cmp.Compare(a.Namespace, b.Namespace) })
	return synced, not
}
