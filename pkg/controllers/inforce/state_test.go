// SPDX-License-Identifier: Apache-2.0

package inforce

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
)

func refused(by string) answer {
	return answer{err: apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("ValidatingAdmissionPolicy '"+by+"' denied request"))}
}

var (
	withGate    = answer{pod: &corev1.Pod{Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}}}}
	withoutGate = answer{pod: &corev1.Pod{Spec: corev1.PodSpec{SchedulingGates: []corev1.PodSchedulingGate{{Name: "example.dev/quota"}}}}}
	noRight     = answer{err: apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("cannot create"))}
	noAnswer    = answer{err: context.DeadlineExceeded}
)

func TestJudge_ClaimsOnlyWhatTheAnswersShow(t *testing.T) {
	for name, tc := range map[string]struct {
		hold, guard         answer
		wantHeld, wantGuard bool
		wantWhy             string
	}{
		"in force":                {withGate, refused(guardPolicy), true, true, ""},
		"no gate, refused":        {refused(guardPolicy), refused(guardPolicy), false, true, "whether Pods are held is not known"},
		"no gate, accepted":       {withoutGate, refused(guardPolicy), false, true, "no scheduling gate"},
		"no guard":                {withGate, withGate, true, false, "is accepted"},
		"nothing":                 {withoutGate, withoutGate, false, false, "is accepted"},
		"refused by another":      {withGate, refused("pods.example.dev"), true, false, "guarded is not known"},
		"refused by a longer one": {withGate, refused(guardPolicy + ".example.dev"), true, false, "guarded is not known"},
		"no right":                {noRight, noRight, false, false, "cannot create"},
		"no answer":               {noAnswer, noAnswer, false, false, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(tc.hold, tc.guard)
			if got.Held != tc.wantHeld || got.Guarded != tc.wantGuard || !strings.Contains(got.Why, tc.wantWhy) || got.InForce() != (got.Why == "") {
				t.Errorf("got %+v, want held %t, guarded %t, why %q", got, tc.wantHeld, tc.wantGuard, tc.wantWhy)
			}
		})
	}
}

// answers are those for both Pods.
type answers struct{ hold, guard answer }

// server gives the answers that it has now.
type server struct{ atomic.Pointer[answers] }

func (s *server) Create(_ context.Context, pod *corev1.Pod, o metav1.CreateOptions) (*corev1.Pod, error) {
	if len(o.DryRun) == 0 {
		return nil, errors.New("a Pod would have been created")
	}
	now := s.Load()
	if pod.Name == holdProbe {
		return now.hold.pod, now.hold.err
	}
	return now.guard.pod, now.guard.err
}

// observed are the answers to the question whether all is in force, each once.
type observed []bool

func (o *observed) Wanted() bool { return true }

func (o *observed) Observed(_ context.Context, s State) {
	if len(*o) == 0 || (*o)[len(*o)-1] != s.InForce() {
		*o = append(*o, s.InForce())
	}
}

func TestWatch_NoticesThatGuardsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, o := &server{}, &observed{}
		s.Store(&answers{withoutGate, withoutGate})
		go Watch(ctx, s, o)
		for _, now := range []answers{{withGate, refused(guardPolicy)}, {withoutGate, withoutGate}} {
			<-time.After(2 * interval)
			synctest.Wait()
			s.Store(&now)
		}
		<-time.After(2 * interval)
		cancel()
		synctest.Wait()
		if want := []bool{false, true, false}; !slices.Equal(*o, want) {
			t.Errorf("in force: %v, want %v", *o, want)
		}
	})
}

// nobody is an observer in a cluster without a label.
type nobody struct{ observed }

func (n *nobody) Wanted() bool { return false }

func TestWatch_AsksNothingWithoutALabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := &nobody{}
		go Watch(ctx, nil, n) // a question would panic
		<-time.After(3 * interval)
		cancel()
		synctest.Wait()
		if len(n.observed) > 0 {
			t.Errorf("observed %v", n.observed)
		}
	})
}
