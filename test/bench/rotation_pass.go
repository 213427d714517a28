// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/trusted-resources/chains-extension/pkg/apis/v1alpha1"
	"github.com/trusted-resources/chains-extension/test/harness"
)

// rotateOnce measures the rotation from the first key of a new KeyRing to a second. It
// removes what it needed, so that the next measurement runs without it.
func (b *bench) rotateOnce(ctx context.Context, o options, r *rotationRound) error {
	s, err := b.setUpRing(ctx, o, fmt.Sprintf("round-%d", r.number))
	if err != nil {
		return err
	}
	if err := s.measure(ctx, o, r); err != nil {
		return err // nothing is measured after an error
	}
	return s.remove(ctx)
}

// measure starts a controller, waits until it has nothing to do, and rotates.
func (s *ringSetup) measure(ctx context.Context, o options, r *rotationRound) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout(o.count))
	defer cancel()
	trackCtx, endTracker := context.WithCancel(ctx)
	defer endTracker()
	tracker, err := s.track(trackCtx, metav1.NamespaceAll)
	if err != nil {
		return err
	}
	policies, err := s.policiesVersion(ctx)
	if err != nil {
		return err
	}
	return s.withController(ctx, o.concurrency, func(controller *harness.Controller) error {
		processes, err := s.processes(ctx, controller.Name)
		if err != nil {
			return err
		}
		s.log.Printf("%s: signing with the first key", s.old.name)
		group, groupCtx := errgroup.WithContext(ctx)
		group.Go(func() error { _, err := s.ringReaches(groupCtx, s.created, isActive(s.old)); return err })
		group.Go(func() error { _, err := s.policiesHave(groupCtx, policies, s.old); return err })
		group.Go(func() error { _, err := tracker.waitAll(groupCtx, o.count); return err })
		if err := group.Wait(); err != nil {
			return err
		}
		endTracker() // its watch would take CPU time during the rotation
		s.log.Printf("%s: waiting until the controller is idle", s.old.name)
		if _, err := waitIdle(ctx, processes[controller.Name]); err != nil {
			return err
		}
		profile := s.profiles.of(controller, fmt.Sprintf("rotation-%d", r.number))
		return s.rotate(ctx, processes, profile, o.count, r)
	})
}

// rotate adds the second key and measures until the first is retired. Each Task has a
// signature before, so each arrival on the tracker is a write. That each Task has exactly
// one write shows that this write is the new signature.
func (s *ringSetup) rotate(ctx context.Context, processes processes, profile *controllerProfile, count int, r *rotationRound) error {
	ctx, cancel := context.WithCancel(ctx) // ends the watch of the tracker
	defer cancel()
	tracker, err := s.track(ctx, metav1.NamespaceAll)
	if err != nil {
		return err
	}
	policies, err := s.policiesVersion(ctx)
	if err != nil {
		return err
	}
	logged, err := os.Stat(s.cluster.AuditLog())
	if err != nil {
		return err
	}
	s.log.Printf("%s: rotating to the second key", s.old.name)
	began := time.Now()
	changed, err := s.addKey(ctx, s.next)
	if err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	note := func(took *seconds, wait func() (time.Time, error)) {
		group.Go(func() error {
			at, err := wait()
			*took = inSeconds(at.Sub(began))
			return err
		})
	}
	note(&r.Trusted, func() (time.Time, error) { return s.policiesHave(groupCtx, policies, s.next) })
	note(&r.Active, func() (time.Time, error) { return s.ringReaches(groupCtx, changed, isActive(s.next)) })
	note(&r.Rotated, func() (time.Time, error) { return s.ringReaches(groupCtx, changed, isRotated(s.old, s.next)) })
	note(&r.LastSigned, func() (last time.Time, err error) {
		r.Controller, err = timePass(groupCtx, tracker, processes, count, profile.recordCPU)
		return r.Controller.last, err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	r.Writes, err = s.countWrites(metav1.NamespaceAll, count, logged.Size())
	return err
}

// addKey appends a key to the KeyRing and returns the resourceVersion after that.
func (s *ringSetup) addKey(ctx context.Context, key benchKey) (resourceVersion string, err error) {
	patch, err := json.Marshal([]any{map[string]any{"op": "add", "path": "/spec/keys/-", "value": key.spec()}})
	if err != nil {
		return "", err
	}
	ring, err := s.rings.Patch(ctx, v1alpha1.DefaultKeyRing, types.JSONPatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return "", err
	}
	return ring.ResourceVersion, nil
}
