package main

import (
	"context"
	"fmt"

	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// memory is that of the controller with so many signed Tasks in the cluster.
type memory struct {
	Count int `json:"count"`
	// AfterSigning is that of the process that has signed them all, when the
	// last signature is seen. Most of the Events still wait in it.
	AfterSigning footprint `json:"afterSigning"`
	// AfterStart is that of a fresh process that has found them all signed and
	// come to rest.
	AfterStart footprint `json:"afterStart"`
	// LookedAtAll is from the start of the latter until it came to rest, exact
	// to half a second.
	LookedAtAll seconds `json:"lookedAtAllSeconds"`
}

// footprint is the resident memory of a process, as the kernel counts it.
type footprint struct {
	Resident mebibytes `json:"residentMebibytes"`
	// Anonymous is the part of it that no file backs: without the program's own
	// pages, which the kernel can drop and read again.
	Anonymous mebibytes `json:"anonymousMebibytes"`
	// Peak is the highest that was resident since the process started.
	Peak mebibytes `json:"peakMebibytes"`
}

func (b *bench) measureMemory(ctx context.Context, o options) ([]memory, error) {
	results := make([]memory, 0, len(o.memoryCounts()))
	for _, count := range o.memoryCounts() {
		result := memory{Count: count}
		err := b.withTasks(ctx, optedIn, count, func(namespace string) error {
			ctx, cancel := context.WithTimeout(ctx, passTimeout)
			defer cancel()
			tracker, err := b.track(ctx, namespace, trustedresources.SignatureAnnotation)
			if err != nil {
				return err
			}
			b.log.Printf("%s: memory with %d Tasks", namespace, count)
			return b.withController(ctx, o.concurrency, func(controller *harness.Controller) error {
				if _, err := tracker.waitAll(ctx, count); err != nil {
					return err
				}
				if result.AfterSigning, err = b.footprint(ctx, controller); err != nil {
					return err
				}
				if err := b.profiles.of(controller, fmt.Sprintf("memory-%d", count)).saveHeap(ctx, "signed"); err != nil {
					return err
				}
				return b.measureRestart(ctx, namespace, tracker, controller, &result)
			})
		})
		if err != nil {
			return results, err
		}
		results = append(results, result)
	}
	return results, nil
}

// measureRestart starts the controller afresh where all is signed but for one
// Task, whose signature proves that it leads and works.
func (b *bench) measureRestart(ctx context.Context, namespace string, tracker *tracker, controller *harness.Controller, result *memory) error {
	if err := controller.Stop(ctx); err != nil {
		return err
	}
	if err := b.create(ctx, namespace, "last"); err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	if _, err := tracker.waitTask(ctx, "last"); err != nil {
		return err
	}
	part, err := b.cluster.Part(ctx, controller.Name)
	if err != nil {
		return err
	}
	started, err := processStart(part.PID)
	if err != nil {
		return err
	}
	idle, err := waitIdle(ctx, part.PID)
	if err != nil {
		return err
	}
	result.LookedAtAll = inSeconds(idle.Sub(started))
	if result.AfterStart, err = b.footprint(ctx, controller); err != nil {
		return err
	}
	return b.profiles.of(controller, fmt.Sprintf("memory-%d", result.Count)).saveHeap(ctx, "restarted")
}

func (b *bench) footprint(ctx context.Context, controller *harness.Controller) (footprint, error) {
	part, err := b.cluster.Part(ctx, controller.Name)
	if err != nil {
		return footprint{}, err
	}
	resident, err := controller.ResidentMemory(ctx)
	if err != nil {
		return footprint{}, err
	}
	anonymous, err := processMemory(part.PID, "RssAnon")
	if err != nil {
		return footprint{}, err
	}
	peak, err := processMemory(part.PID, "VmHWM")
	return footprint{inMebibytes(resident), inMebibytes(anonymous), inMebibytes(peak)}, err
}
