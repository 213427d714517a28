// SPDX-License-Identifier: Apache-2.0

// Package resources has what the controllers of Tasks, Pipelines and StepActions
// share: which resources a replica looks after, when a resource is looked at
// again, and what follows from an error.
package resources

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/pkg/controllers/informers"
	"github.com/trusted-resources/chains-extension/pkg/controllers/turns"
	"github.com/trusted-resources/chains-extension/pkg/resource"
)

// Resources are the resources of one kind that one controller looks after. It
// implements reconciler.LeaderAware.
type Resources struct {
	reconciler.LeaderAwareFuncs

	summaries *informers.Summaries
	turns     *turns.Turns
	led       sync.Map // by name: the buckets that this replica leads
}

var _ reconciler.LeaderAware = (*Resources)(nil)

// New returns the resources of the summaries.
func New(summaries *informers.Summaries) *Resources {
	r := &Resources{summaries: summaries}
	r.PromoteFunc = r.enqueueAll
	return r
}

// enqueueAll enqueues all resources of a bucket for a replica that becomes its
// leader.
func (r *Resources) enqueueAll(bucket reconciler.Bucket, _ func(reconciler.Bucket, types.NamespacedName)) error {
	for _, key := range r.summaries.Keys("") {
		if bucket.Has(key) {
			r.turns.Add(key, turns.Checked)
		}
	}
	return nil
}

// Promote implements reconciler.LeaderAware.
func (r *Resources) Promote(bucket reconciler.Bucket, enqueue func(reconciler.Bucket, types.NamespacedName)) error {
	r.led.Store(bucket.Name(), true)
	return r.LeaderAwareFuncs.Promote(bucket, enqueue)
}

// Demote implements reconciler.LeaderAware.
func (r *Resources) Demote(bucket reconciler.Bucket) {
	r.led.Delete(bucket.Name())
	r.LeaderAwareFuncs.Demote(bucket)
}

// Leads reports whether this replica looks after any resources.
func (r *Resources) Leads() (leads bool) {
	r.led.Range(func(_, _ any) bool {
		leads = true
		return false
	})
	return leads
}

// Visit calls visit with the summary of each resource that this replica looks after.
func (r *Resources) Visit(visit func(*resource.Summary)) {
	r.summaries.Visit(func(s *resource.Summary) {
		if r.IsLeaderFor(s.Key()) {
			visit(s)
		}
	})
}

// Get returns the summary of the resource with this key ("namespace/name"). It
// returns nil if there is no such resource, or if another replica looks after it.
func (r *Resources) Get(key string) (*resource.Summary, error) {
	name, err := parseKey(key)
	if err != nil || !r.IsLeaderFor(name) {
		return nil, err
	}
	return r.summaries.Get(name)
}

// Queue says how a controller works off resources.
type Queue struct {
	// Name names the work queue in metrics and logs.
	Name string
	// FirstRetry is the delay before the first retry of a failed resource.
	// The delay doubles with each retry.
	FirstRetry time.Duration
	// Wanted reports whether the controller has anything to do at present. Events
	// are ignored while it has not.
	Wanted func() bool
	// Changes calls its argument with each namespace whose resources must be looked
	// at again; an empty namespace stands for all namespaces.
	Changes func(func(namespace string))
}

// maxRetryDelay bounds the delay between two retries.
const maxRetryDelay = 5 * time.Minute

// NewController returns a controller that calls c for each resource that changes,
// and for the resources of each namespace whose snapshot changes. The namespaces take
// turns.
func (r *Resources) NewController(ctx context.Context, handlers *informers.Handlers, c controller.Reconciler, q Queue) (*controller.Impl, error) {
	impl := controller.NewContext(ctx, c, controller.ControllerOptions{
		WorkQueueName: v1alpha1.Group + "." + q.Name,
		Logger:        logging.FromContext(ctx).Named(q.Name),
		RateLimiter:   workqueue.NewTypedItemExponentialFailureRateLimiter[any](q.FirstRetry, maxRetryDelay),
	})
	// One namespace alone can keep all workers busy.
	r.turns = turns.New(impl.EnqueueKey, impl.Concurrency)
	impl.Reconciler = r.turns.Reconciler(r, c)
	err := r.summaries.OnEvent(handlers, func(key types.NamespacedName, initial bool) {
		if !q.Wanted() {
			return
		}
		lane := turns.Changed
		if initial { // behind the changes, among them those that this controller writes
			lane = turns.Checked
		}
		r.turns.Add(key, lane)
	})
	if err != nil {
		return nil, err
	}
	q.Changes(func(namespace string) {
		for _, key := range r.summaries.Keys(namespace) {
			r.turns.Add(key, turns.Checked)
		}
	})
	return impl, nil
}
