// Package leases has replicas take turns, by way of Kubernetes' Leases.
package leases

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Whoever waits for a lease looks again after about leaseRetry; one that was not
// given back is free after leaseDuration.
const (
	leaseDuration = 15 * time.Second
	leaseRenewal  = 10 * time.Second
	leaseRetry    = 250 * time.Millisecond
)

// Leases are the locks of one replica.
type Leases struct {
	client    coordination.LeasesGetter
	namespace string
	identity  string
}

// New makes the locks of a replica, which are Leases in the namespace.
func New(client coordination.LeasesGetter, namespace string) *Leases {
	host, _ := os.Hostname() // for people; the UUID tells replicas apart
	return &Leases{client, namespace, host + "_" + string(uuid.NewUUID())}
}

// Do has do hold the Lease "tekton-chains-<lock>". The context that do gets ends
// when another replica may hold it. No two callers may share one Leases and ask
// for the same lock at the same time.
func (l *Leases) Do(ctx context.Context, lock string, do func(context.Context) error) error {
	// Whoever holds the lease is done before it is given back, even if ctx ends.
	electing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var decide sync.Once // whether it comes to hold the lease, or gives up waiting
	holds := false
	defer context.AfterFunc(ctx, func() { decide.Do(stop) })()

	done := make(chan error, 1)
	start := func(leading context.Context) {
		decide.Do(func() { holds = true })
		if holds {
			done <- hold(ctx, leading, do)
		}
		stop()
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: l.namespace, Name: "tekton-chains-" + lock},
			Client:     l.client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: l.identity},
		},
		LeaseDuration: leaseDuration, RenewDeadline: leaseRenewal, RetryPeriod: leaseRetry,
		ReleaseOnCancel: true,
		Callbacks:       leaderelection.LeaderCallbacks{OnStartedLeading: start, OnStoppedLeading: func() {}},
	})
	if err != nil {
		return fmt.Errorf("lease %s: %w", lock, err)
	}
	elector.Run(electing)
	decide.Do(func() {})
	if !holds {
		return cmp.Or(ctx.Err(), errLeaseLost)
	}
	return <-done
}

var errLeaseLost = errors.New("the lease was lost to another replica")

// hold runs do until it is done, or either context ends.
func hold(ctx, leading context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(leading, func() { cancel(errLeaseLost) })()
	return do(ctx)
}
