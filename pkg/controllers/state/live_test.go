// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/tektoncd/pipeline/pkg/apis/pipeline/v1alpha1"
	policyclient "github.com/tektoncd/pipeline/pkg/client/clientset/versioned/typed/pipeline/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"knative.dev/pkg/controller"

	"github.com/trusted-resources/chains-extension/pkg/policy"
)

// apiServer has count policies in each namespace and serves them in pages.
type apiServer struct {
	policyclient.VerificationPolicyInterface

	count    int
	err      error
	requests []metav1.ListOptions
	during   func() // runs during each request
}

func (s *apiServer) VerificationPolicies(string) policyclient.VerificationPolicyInterface { return s }

func (s *apiServer) List(_ context.Context, options metav1.ListOptions) (*v1alpha1.VerificationPolicyList, error) {
	s.requests = append(s.requests, options)
	if s.during != nil {
		s.during()
	}
	first, _ := strconv.Atoi(options.Continue)
	list := &v1alpha1.VerificationPolicyList{}
	for i := first; i < min(s.count, first+int(options.Limit)); i++ {
		list.Items = append(list.Items, v1alpha1.VerificationPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i)}})
	}
	if next := first + len(list.Items); next < s.count {
		list.Continue = strconv.Itoa(next)
	}
	return list, s.err
}

type live struct {
	*livePolicies
	*testing.T
	server *apiServer
	clock  *clocktesting.FakeClock
}

func newLive(t *testing.T) live {
	t.Helper()
	server, clock := &apiServer{count: 1}, clocktesting.NewFakeClock(time.Now())
	return live{newLivePolicies(server, noCluster{}, policy.NewKeys(policy.Sources{Clock: clock}), clock), t, server, clock}
}

// noCluster is a cluster without ClusterVerificationPolicies.
type noCluster struct{}

func (noCluster) Ranks(string) (policy.Ranks, error) { return policy.Ranks{}, nil }

// received returns the time of a state that is received now, and lets time pass.
func (l live) received() time.Time {
	now := l.clock.Now()
	l.clock.Step(time.Millisecond)
	return now
}

func (l live) expectRead(namespace string, after time.Time) {
	l.Helper()
	if set, err := l.readAfter(l.Context(), namespace, after); err != nil || set == nil {
		l.Errorf("got %v and error %v, want the policies", set, err)
	}
}

// expectAgain is about the namespace "a".
func (l live) expectAgain(after time.Time, within time.Duration) {
	l.Helper()
	_, err := l.readAfter(l.Context(), "a", after)
	if again, delay := controller.IsRequeueKey(err); !again || delay <= 0 || delay > within {
		l.Errorf("got error %v, want to be asked to come back within %v", err, within)
	}
}

func (l live) expectLists(count int) {
	l.Helper()
	if len(l.server.requests) != count {
		l.Errorf("%d LIST requests were made, want %d", len(l.server.requests), count)
	}
}

func TestLivePolicies_ShareOneListPerSecond(t *testing.T) {
	l := newLive(t)
	l.expectRead("a", l.received())
	waiting := make([]time.Time, 0, 100)
	for range cap(waiting) {
		waiting = append(waiting, l.received())
	}
	for _, after := range waiting {
		l.expectAgain(after, listInterval) // the LIST is older than the state
	}
	l.expectLists(1)
	l.expectRead("b", l.received()) // other namespaces do not wait
	l.expectLists(2)
	l.clock.Step(listInterval)
	for _, after := range waiting {
		l.expectRead("a", after)
	}
	l.expectLists(3)
	l.clock.Step(listInterval)
	l.expectRead("a", waiting[0]) // the LIST is not live any more
	l.expectLists(4)
}

func TestLivePolicies_DoNotWaitForAnotherWorker(t *testing.T) {
	l := newLive(t)
	asked := l.received()
	l.server.during = func() { l.expectAgain(asked, listPoll) }
	l.expectRead("a", asked)
	l.expectLists(1)
	l.server.during = nil
	l.expectRead("a", asked)
	l.expectLists(1)
}

func TestLivePolicies_NeverUseAListThatStartedBefore(t *testing.T) {
	l := newLive(t)
	var during time.Time
	l.server.during = func() { during = l.received() }
	l.expectRead("a", l.received())
	l.expectAgain(during, listInterval)
	l.expectAgain(time.Time{}, listInterval) // not known when the state was received
}

func TestLivePolicies_ReadAllPages(t *testing.T) {
	l := newLive(t)
	l.server.count = 2*listPage + 1
	l.expectRead("a", l.received())
	l.expectLists(3)
	for _, request := range l.server.requests {
		if request.Limit != listPage {
			t.Errorf("a request has limit %d, want %d", request.Limit, listPage)
		}
	}
}

func TestLivePolicies_RefuseTooMany(t *testing.T) {
	l := newLive(t)
	l.server.count = maxPolicies
	l.expectRead("most", l.received())
	l.server.count++
	if _, err := l.readAfter(t.Context(), "more", l.received()); !errors.Is(err, errTooManyPolicies) {
		t.Errorf("got error %v, want %v", err, errTooManyPolicies)
	}
}

func TestLivePolicies_DoNotShareFailures(t *testing.T) {
	l := newLive(t)
	l.server.err = errors.New("away")
	asked := l.received()
	if _, err := l.readAfter(t.Context(), "a", asked); !errors.Is(err, l.server.err) {
		t.Errorf("got error %v, want %v", err, l.server.err)
	}
	l.server.err = nil
	l.expectAgain(asked, listInterval)
	l.clock.Step(listInterval)
	l.expectRead("a", asked)
}

func TestLivePolicies_ForgetNamespaces(t *testing.T) {
	l := newLive(t)
	for i := range 100 {
		l.expectRead(fmt.Sprint(i), l.received())
	}
	l.clock.Step(listInterval)
	l.expectRead("last", l.received())
	if len(l.lists) != 1 {
		t.Errorf("the LISTs of %d namespaces are kept, want 1", len(l.lists))
	}
}
