// SPDX-License-Identifier: Apache-2.0

// Package leases implements mutual exclusion between replicas with Leases of the
// API server.
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

const (
	// leaseDuration is the time until another replica may take a lease whose holder
	// has stopped renewing it.
	leaseDuration = 15 * time.Second
	// leaseRenewal is the time after which a holder that cannot renew gives up.
	leaseRenewal = 10 * time.Second
	// leaseRetry is about the time between two attempts to get a lease.
	leaseRetry = 250 * time.Millisecond
)

// Leases are the locks of one replica. Leases implements registry.Locks.
type Leases struct {
	client    coordination.LeasesGetter
	namespace string
	identity  string
}

// New returns the locks of one replica. The locks are Leases in the namespace.
func New(client coordination.LeasesGetter, namespace string) *Leases {
	host, _ := os.Hostname() // for people; only the UUID is unique
	return &Leases{client, namespace, host + "_" + string(uuid.NewUUID())}
}

// Do calls critical while this replica holds the Lease "tekton-chains-<lock>". It
// cancels the context of critical when another replica may hold the Lease. Two
// callers must not use the same lock of one Leases at the same time: they have
// the same identity.
func (l *Leases) Do(ctx context.Context, lock string, critical func(context.Context) error) error {
	// electing must not end with ctx: the elector would release the lease before
	// critical has returned.
	electing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	// Either the lease is acquired, or ctx ends and the election stops. The first
	// of the two decides.
	var decide sync.Once
	acquired := false
	defer context.AfterFunc(ctx, func() { decide.Do(stop) })()

	done := make(chan error, 1)
	start := func(leading context.Context) {
		decide.Do(func() { acquired = true })
		if acquired {
			done <- runWhileLeading(ctx, leading, critical)
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
		return fmt.Errorf("lease tekton-chains-%s: %w", lock, err)
	}
	elector.Run(electing)
	decide.Do(func() {}) // from here on, acquired does not change
	if !acquired {
		return cmp.Or(ctx.Err(), errLeaseLost)
	}
	return <-done
}

var errLeaseLost = errors.New("the lease was lost, another replica may hold it")

// runWhileLeading calls critical with a context that ends with either context.
func runWhileLeading(ctx, leading context.Context, critical func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(leading, func() { cancel(errLeaseLost) })()
	return critical(ctx)
}
