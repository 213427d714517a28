// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// pass is the result of annotating all Tasks of a backlog once. This program
// watches the Tasks in both kinds of pass; the arrivals of the first and of the
// last annotation on that watch delimit the measurement.
type pass struct {
	// PerSecond is the number of Tasks without the first, divided by FirstToLast.
	PerSecond float64 `json:"perSecond"`
	// FirstToLast is the time from the first annotation to the last.
	FirstToLast seconds `json:"firstToLastSeconds"`
	// Cores is the mean number of cores that each process uses in that time.
	Cores map[string]float64 `json:"cores"`

	last time.Time
}

// round is one pass of the controller and one pass of the bare client.
type round struct {
	Controller pass `json:"controller"`
	Bare       pass `json:"bare"`
	// Ratio is the controller's rate divided by the bare client's rate.
	Ratio float64 `json:"ratio"`
	// StartToLast is from the start of the controller's process to the arrival
	// of the last signature. It contains the leader election.
	StartToLast seconds `json:"startToLastSeconds"`
	Writes      writes  `json:"writes"`
	Events      events  `json:"events"`

	number int // of this round, from 1
}

// backlog is the comparison of the controller with the bare client.
type backlog struct {
	Count       int     `json:"count"`
	Concurrency int     `json:"concurrency"`
	Rounds      []round `json:"rounds"`
	// MedianRatio is the median of the rounds' ratios, as the function median
	// defines it.
	MedianRatio float64 `json:"medianRatio"`
}

func (b *bench) measureBacklog(ctx context.Context, o options) (*backlog, error) {
	result := &backlog{Count: o.count, Concurrency: o.concurrency}
	for i := range o.rounds {
		var r round
		passes := []func(context.Context, options, *round) error{b.controllerPass, b.barePass}
		if i%2 == 1 {
			slices.Reverse(passes) // so that a slow change of the machine's speed favours neither
		}
		for _, pass := range passes {
			r.number = i + 1
			if err := pass(ctx, o, &r); err != nil {
				return result, err
			}
		}
		r.Ratio = r.Controller.PerSecond / r.Bare.PerSecond
		b.log.Printf("round %d of %d: controller %.0f/s, bare %.0f/s, ratio %.2f",
			i+1, o.rounds, r.Controller.PerSecond, r.Bare.PerSecond, r.Ratio)
		result.Rounds = append(result.Rounds, r)
		result.MedianRatio = medianRatio(result.Rounds)
	}
	return result, nil
}

func medianRatio(rounds []round) float64 {
	ratios := make([]float64, 0, len(rounds))
	for _, r := range rounds {
		ratios = append(ratios, r.Ratio)
	}
	return median(ratios)
}

// median returns the middle value, and of an even number of values the smaller
// of the two in the middle.
func median(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[(len(values)-1)/2]
}

// beside is what happens while a controller works, until the context ends.
type beside func(context.Context, *harness.Controller) error

func alone(context.Context, *harness.Controller) error { return nil }

// while calls work, with b beside.
func (b beside) while(ctx context.Context, controller *harness.Controller, work func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- b(ctx, controller) }()
	err := work()
	cancel()
	return errors.Join(err, <-ended)
}

// controllerPass measures a new controller process that signs a backlog which
// was created before the process started.
func (b *bench) controllerPass(ctx context.Context, o options, r *round) error {
	return b.controllerPassBeside(ctx, o, r, alone)
}

func (b *bench) controllerPassBeside(ctx context.Context, o options, r *round, beside beside) error {
	return b.withTasks(ctx, optedIn, o.count, func(namespace string) error {
		ctx, cancel := context.WithTimeout(ctx, passTimeout(o.count))
		defer cancel()
		tracker, err := b.track(ctx, namespace)
		if err != nil {
			return err
		}
		b.log.Printf("%s: signing with the controller", namespace)
		return b.withController(ctx, o.concurrency, func(controller *harness.Controller) error {
			processes, err := b.processes(ctx, controller.Name)
			if err != nil {
				return err
			}
			started, err := processStart(processes[controller.Name])
			if err != nil {
				return err
			}
			profile := b.profiles.of(controller, fmt.Sprintf("backlog-%d", r.number))
			if err := beside.while(ctx, controller, func() (err error) {
				r.Controller, err = timePass(ctx, tracker, processes, o.count, profile.recordCPU)
				return err
			}); err != nil {
				return err
			}
			if err := profile.saveHeap(ctx, "signed"); err != nil {
				return err
			}
			r.StartToLast = inSeconds(r.Controller.last.Sub(started))
			b.log.Printf("%s: waiting for the Events", namespace)
			if r.Events, err = b.waitEvents(ctx, namespace, o.count, r.Controller.last); err != nil {
				return err
			}
			r.Writes, err = b.countWrites(namespace, o.count, 0)
			return err
		})
	})
}

// passTimeout bounds a pass over count Tasks. It allows for 100 signatures per
// second, and 20 minutes for the rest of the pass.
func passTimeout(count int) time.Duration {
	return 20*time.Minute + time.Duration(count)*10*time.Millisecond
}

// timePass measures from the first annotation of a backlog to the last. It calls
// record at the first annotation, and the function that record returns at the
// last.
func timePass(ctx context.Context, tracker *tracker, processes processes, count int, record func(context.Context) (stop func() error)) (pass, error) {
	first, err := tracker.waitFirst(ctx)
	if err != nil {
		return pass{}, err
	}
	before, err := processes.cpuTimes()
	if err != nil {
		return pass{}, err
	}
	stop := record(ctx)
	last, err := tracker.waitAll(ctx, count)
	after, cpuErr := processes.cpuTimes()
	if err := errors.Join(err, cpuErr, stop()); err != nil {
		return pass{}, err
	}
	took := last.Sub(first)
	return pass{
		PerSecond: float64(count-1) / took.Seconds(), FirstToLast: inSeconds(took),
		Cores: cores(before, after), last: last,
	}, nil
}
