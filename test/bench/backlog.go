package main

import (
	"context"
	"slices"
	"time"

	"github.com/tektoncd/pipeline/pkg/trustedresources"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// pass is one time that a backlog was worked off. From First to Last are the
// arrivals of the first and the last annotation on a watch of this program;
// the watch runs in both kinds of pass.
type pass struct {
	// PerSecond is all Tasks but the first over the time from first to last.
	PerSecond float64 `json:"perSecond"`
	// FirstToLast is that time.
	FirstToLast seconds `json:"firstToLastSeconds"`
	// Cores is how many cores each process kept busy in that time.
	Cores map[string]float64 `json:"cores"`

	last time.Time
}

// round is a pass of the controller beside one of the bare client.
type round struct {
	Controller pass `json:"controller"`
	Bare       pass `json:"bare"`
	// Ratio is the controller's rate over that of the bare client.
	Ratio float64 `json:"ratio"`
	// StartToLast is from the start of the controller's process to the arrival
	// of the last signature. It contains the election of the leader.
	StartToLast seconds `json:"startToLastSeconds"`
	Writes      writes  `json:"writes"`
	Events      events  `json:"events"`
}

type backlog struct {
	Count       int     `json:"count"`
	Concurrency int     `json:"concurrency"`
	Rounds      []round `json:"rounds"`
	// MedianRatio is the lower one of two in the middle.
	MedianRatio float64 `json:"medianRatio"`
}

func (b *bench) measureBacklog(ctx context.Context) (*backlog, error) {
	result := &backlog{Count: b.count, Concurrency: b.concurrency}
	ratios := make([]float64, 0, b.rounds)
	for i := range b.rounds {
		var r round
		passes := []func(context.Context, *round) error{b.controllerPass, b.barePass}
		if i%2 == 1 {
			slices.Reverse(passes) // whatever drifts is no advantage to either
		}
		for _, pass := range passes {
			if err := pass(ctx, &r); err != nil {
				return result, err
			}
		}
		r.Ratio = r.Controller.PerSecond / r.Bare.PerSecond
		b.logf("round %d of %d: controller %.0f/s, bare %.0f/s, ratio %.2f",
			i+1, b.rounds, r.Controller.PerSecond, r.Bare.PerSecond, r.Ratio)
		result.Rounds = append(result.Rounds, r)
		ratios = append(ratios, r.Ratio)
	}
	slices.Sort(ratios)
	result.MedianRatio = ratios[(len(ratios)-1)/2]
	return result, nil
}

// controllerPass has a fresh controller sign a backlog that was there before.
func (b *bench) controllerPass(ctx context.Context, r *round) error {
	return b.withTasks(ctx, optedIn, b.count, func(namespace string) error {
		ctx, cancel := context.WithTimeout(ctx, passTimeout)
		defer cancel()
		tracker, err := b.track(ctx, namespace, trustedresources.SignatureAnnotation)
		if err != nil {
			return err
		}
		b.logf("%s: the controller signs", namespace)
		return b.withController(ctx, func(controller *harness.Controller) error {
			processes, err := b.processes(ctx, controller.Name)
			if err != nil {
				return err
			}
			started, err := processStart(processes[controller.Name])
			if err != nil {
				return err
			}
			if r.Controller, err = b.timePass(ctx, tracker, processes); err != nil {
				return err
			}
			r.StartToLast = seconds(r.Controller.last.Sub(started))
			b.logf("%s: waiting for its Events", namespace)
			if r.Events, err = b.settleEvents(ctx, namespace, r.Controller.last); err != nil {
				return err
			}
			r.Writes, err = b.countWrites(namespace, b.count)
			return err
		})
	})
}

const passTimeout = 20 * time.Minute

// timePass follows the annotations of a backlog as they come.
func (b *bench) timePass(ctx context.Context, tracker *tracker, processes processes) (pass, error) {
	first, err := tracker.waitFirst(ctx)
	if err != nil {
		return pass{}, err
	}
	before, err := processes.cpuTimes()
	if err != nil {
		return pass{}, err
	}
	last, err := tracker.waitAll(ctx, b.count)
	if err != nil {
		return pass{}, err
	}
	after, err := processes.cpuTimes()
	if err != nil {
		return pass{}, err
	}
	took := last.Sub(first)
	return pass{
		PerSecond: float64(b.count-1) / took.Seconds(), FirstToLast: seconds(took),
		Cores: cores(before, after), last: last,
	}, nil
}
