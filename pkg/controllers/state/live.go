// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	policyclient "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"
	"k8s.io/utils/clock"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/policy"
	"github.com/trusted-resources/chains-extension/pkg/resource"
	"github.com/trusted-resources/chains-extension/pkg/snapshot"
)

const (
	// listInterval is the least time between the starts of two LISTs of the policies
	// of one namespace, and how long a LIST counts as live.
	listInterval = time.Second
	// listPoll is the least time between two looks at a LIST that another worker
	// makes.
	listPoll = 100 * time.Millisecond
	// listTimeout bounds one LIST with all its pages.
	listTimeout = 10 * time.Second
	listPage    = 500
	// maxPolicies bounds the policies of one namespace that are read.
	maxPolicies = 10_000
)

// liveAuthorities are the authorities of the policies and keys that the API server
// had after a state of a resource was written.
type liveAuthorities struct {
	live *livePolicies
	of   *resource.Summary
}

var _ snapshot.Authorities = liveAuthorities{}

// Authorizes implements snapshot.Authorities.
func (a liveAuthorities) Authorizes(ctx context.Context, signature, checksum []byte) (bool, error) {
	set, err := a.live.readAfter(ctx, a.of.Namespace, a.of.Received)
	if err != nil {
		return false, err
	}
	return set.Authorizes(ctx, signature, checksum)
}

// livePolicies reads the policies of namespaces from the API server. All resources
// of a namespace share the LISTs, so that many unknown signatures do not cause as
// many requests.
type livePolicies struct {
	client  policyclient.VerificationPoliciesGetter
	cluster policy.ClusterPolicies
	keys    *policy.Keys
	clock   clock.PassiveClock

	mu    sync.Mutex
	lists map[string]*policyList // the last of each namespace
}

// policyList is one LIST of the policies of a namespace.
type policyList struct {
	started, ended time.Time   // ended is zero while the LIST runs
	set            *policy.Set // nil if there is none (yet)
}

func newLivePolicies(client policyclient.VerificationPoliciesGetter, cluster policy.ClusterPolicies, keys *policy.Keys, clock clock.PassiveClock) *livePolicies {
	return &livePolicies{client: client, cluster: cluster, keys: keys, clock: clock, lists: map[string]*policyList{}}
}

// readAfter returns the policies of a namespace as they were at some time after
// the given one, with keys that are read after it. It does not wait for other
// workers: if the policies cannot be read yet, the error asks the work queue to
// come back.
func (l *livePolicies) readAfter(ctx context.Context, namespace string, after time.Time) (*policy.Set, error) {
	list, again := l.reserve(namespace, after)
	switch {
	case again > 0:
		return nil, controller.NewRequeueAfter(again)
	case list.set != nil:
		return list.set, nil
	}
	return l.readFor(ctx, list, namespace)
}

// readFor makes a LIST.
func (l *livePolicies) readFor(ctx context.Context, list *policyList, namespace string) (set *policy.Set, err error) {
	defer func() { l.finish(list, set) }()
	return l.read(ctx, namespace)
}

func (l *livePolicies) finish(list *policyList, set *policy.Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list.ended, list.set = l.clock.Now(), set
}

// reserve returns a LIST that started after the given time. If its set is nil, the
// caller must make it. again is the time to wait if there is none and the next one
// may not start yet.
func (l *livePolicies) reserve(namespace string, after time.Time) (list *policyList, again time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Now()
	if after.IsZero() {
		after = now
	}
	last, found := l.lists[namespace]
	if !found {
		l.dropOld(now)
		last = &policyList{ended: now} // as if it had failed long ago
	}
	switch {
	case last.ended.IsZero():
		return nil, max(listPoll, now.Sub(last.started)) // fewer looks at a slow LIST
	case last.set != nil && last.started.After(after) && now.Sub(last.ended) < listInterval:
		// A copy: the caller reads the set without the lock.
		return &policyList{set: last.set}, 0
	case now.Sub(last.started) < listInterval:
		return nil, last.started.Add(listInterval).Sub(now)
	}
	list = &policyList{started: now}
	l.lists[namespace] = list
	return list, 0
}

// dropOld removes the LISTs that no caller will use. A LIST that has just ended
// stays for the interval between two LISTs.
func (l *livePolicies) dropOld(now time.Time) {
	for namespace, list := range l.lists {
		if !list.ended.IsZero() && now.Sub(list.ended) >= listInterval {
			delete(l.lists, namespace)
		}
	}
}

var errTooManyPolicies = errors.New("too many VerificationPolicies")

// read lists the policies of a namespace.
func (l *livePolicies) read(ctx context.Context, namespace string) (*policy.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	pages := pager.New(func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return l.client.VerificationPolicies(namespace).List(ctx, options)
	})
	pages.PageSize, pages.FullListIfExpired = listPage, false
	var policies []*v1alpha1.VerificationPolicy
	err := pages.EachListItem(ctx, metav1.ListOptions{}, func(item runtime.Object) error {
		found, ok := item.(*v1alpha1.VerificationPolicy)
		if !ok {
			return fmt.Errorf("the list of VerificationPolicies in namespace %s has a %T", namespace, item)
		}
		if policies = append(policies, found); len(policies) > maxPolicies {
			return fmt.Errorf("%w: namespace %s has more than %d; delete those that are not needed", errTooManyPolicies, namespace, maxPolicies)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the VerificationPolicies of namespace %s: %w", namespace, err)
	}
	ranks, err := l.cluster.Ranks(namespace)
	if err != nil {
		return nil, err
	}
	return policy.NewSet(policies, l.keys.Fresh()).With(ranks), nil
}
