package main

import (
	"context"

	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// memory is taken when the controller has come to rest.
type memory struct {
	Count int `json:"count"`
	// AfterSigning is that of a process that has signed all Tasks.
	AfterSigning footprint `json:"afterSigning"`
	// AfterStart is that of a fresh process that has found all signed.
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
	// Peak is the highest since the process started.
	Peak mebibytes `json:"peakMebibytes"`
}

func (b *bench) measureMemory(ctx context.Context) ([]memory, error) {
	results := make([]memory, 0, len(b.memoryCounts()))
	for _, count := range b.memoryCounts() {
		result := memory{Count: count}
		err := b.withTasks(ctx, optedIn, count, func(namespace string) error {
			ctx, cancel := context.WithTimeout(ctx, passTimeout)
			defer cancel()
			tracker, err := b.track(ctx, namespace, trustedresources.SignatureAnnotation)
			if err != nil {
				return err
			}
			b.logf("%s: memory with %d Tasks", namespace, count)
			return b.withController(ctx, func(controller *harness.Controller) error {
				if _, err := tracker.waitAll(ctx, count); err != nil {
					return err
				}
				if result.AfterSigning, _, err = b.footprint(ctx, controller); err != nil {
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
	var err error
	result.AfterStart, result.LookedAtAll, err = b.footprint(ctx, controller)
	return err
}

// footprint waits until the controller is at rest. It also returns how long
// that took since its process was started.
func (b *bench) footprint(ctx context.Context, controller *harness.Controller) (footprint, seconds, error) {
	part, err := b.cluster.Part(ctx, controller.Name)
	if err != nil {
		return footprint{}, 0, err
	}
	started, err := processStart(part.PID)
	if err != nil {
		return footprint{}, 0, err
	}
	idle, err := waitIdle(ctx, part.PID)
	if err != nil {
		return footprint{}, 0, err
	}
	resident, err := controller.ResidentMemory(ctx)
	if err != nil {
		return footprint{}, 0, err
	}
	anonymous, err := processMemory(part.PID, "RssAnon")
	if err != nil {
		return footprint{}, 0, err
	}
	peak, err := processMemory(part.PID, "VmHWM")
	return footprint{mebibytes(resident), mebibytes(anonymous), mebibytes(peak)}, seconds(idle.Sub(started)), err
}
