// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/trusted-resources/chains-extension/test/harness"
)

// memorySample is the memory of the controller at one time of the soak.
type memorySample struct {
	After seconds `json:"afterSeconds"`
	PID   int     `json:"pid"`
	// Footprint is zero if the process had ended.
	Footprint footprint `json:"footprint"`
}

// sampler follows the controller's process.
type sampler struct {
	*bench
	controller *harness.Controller
	profile    *controllerProfile
	started    time.Time
	processes  processes
	before     cpuTimes
	samples    []memorySample
	restarts   int
}

func (b *bench) newSampler(ctx context.Context, controller *harness.Controller) (*sampler, error) {
	processes, err := b.processes(ctx, controller.Name)
	if err != nil {
		return nil, err
	}
	before, err := processes.cpuTimes()
	return &sampler{
		bench: b, controller: controller, profile: b.profiles.of(controller, "soak"),
		started: time.Now(), processes: processes, before: before,
	}, err
}

// soakHeaps is the time between two heap profiles of a soak.
const soakHeaps = 5 * time.Minute

// run looks at the controller each second, takes a sample each soakInterval and saves
// a heap profile each soakHeaps, until the context ends.
func (s *sampler) run(ctx context.Context, good *honestTenant, bad []*hostile) error {
	seen, next, heap := 0, s.started.Add(soakInterval), s.started.Add(soakHeaps)
	for waitFor(ctx, time.Second) {
		if err := s.keepRunning(ctx); err != nil {
			return err
		}
		if time.Now().Before(next) {
			continue
		}
		next = next.Add(soakInterval)
		s.samples = append(s.samples, s.sample())
		var text string
		text, seen = good.since(seen)
		s.log.Printf("soak: %v: %s; controller %v; hostile: %s; %d restarts", time.Since(s.started).Round(time.Second),
			text, s.samples[len(s.samples)-1].Footprint.Resident, progress(sum(bad)), s.restarts)
		if time.Now().After(heap) {
			if err := s.profile.saveHeap(ctx, time.Since(s.started).Round(time.Minute).String()); err != nil && ctx.Err() == nil {
				return err
			}
			heap = heap.Add(soakHeaps)
		}
	}
	s.samples = append(s.samples, s.sample())
	return nil
}

// progress shows how many actions were done, and how many of them failed.
func progress(all []actionCount) string {
	count, failed := 0, 0
	for _, a := range all {
		count += a.Count
		failed += a.Failed
	}
	return fmt.Sprintf("%d actions, %d failed", count, failed)
}

// sample returns the zero footprint if the process has ended.
func (s *sampler) sample() memorySample {
	sample := memorySample{After: inSeconds(time.Since(s.started)), PID: s.processes[s.controller.Name]}
	if read, err := readFootprint(sample.PID); err == nil {
		sample.Footprint = read
	}
	return sample
}

// keepRunning starts a controller that has ended, as Kubernetes does.
func (s *sampler) keepRunning(ctx context.Context) error {
	if _, err := harness.ProcessMemory(s.processes[s.controller.Name], "VmRSS"); err == nil {
		return nil
	}
	s.log.Printf("soak: the controller has ended, see %s", s.cluster.Log(s.controller.Name)) // a process that has ended has no memory
	s.restarts++
	if err := s.controller.Start(ctx); err != nil {
		return fmt.Errorf("starting the controller again: %w", err)
	}
	part, err := s.cluster.Part(ctx, s.controller.Name)
	s.processes[s.controller.Name] = part.PID
	return err
}

// conclude returns the result, with the faults.
func (s *sampler) conclude(o options, good *honestTenant, bad []*hostile) *soak {
	result := &soak{
		Duration: inSeconds(o.duration), Honest: good.result(), Hostile: sum(bad),
		Memory: s.samples, Growth: growth(s.samples), Restarts: s.restarts,
	}
	if s.restarts > 0 {
		delete(s.processes, s.controller.Name) // the CPU time is of the last process only
	}
	if after, err := s.processes.cpuTimes(); err == nil {
		result.Cores = cores(s.before, after)
	}
	result.judge()
	return result
}

// judge lists what is beyond the limits.
func (s *soak) judge() {
	h := s.Honest
	if h.Signature.Count == 0 || h.Unsigned > 0 || h.Errors > 0 {
		s.fault("%d honest Tasks were signed, %d were not, and %d requests failed", h.Signature.Count, h.Unsigned, h.Errors)
	}
	if limit := inMilliseconds(soakP99); h.Signature.P99 >= limit {
		s.fault("p99 of the honest tenant is %v, expected less than %v", h.Signature.P99, limit)
	}
	if s.Growth != nil && *s.Growth > soakGrowth {
		s.fault("the memory grew by %.0f %% after %v, expected at most %.0f %%", 100**s.Growth, soakWarmUp, 100*soakGrowth)
	}
	if s.Restarts > 0 {
		s.fault("the controller ended %d times", s.Restarts)
	}
	for _, a := range s.Hostile {
		if a.Count == 0 || a.Failed == a.Count {
			s.fault("nothing was tested with %q: %d actions, %d failed: %s", a.Name, a.Count, a.Failed, a.LastError)
		}
	}
}

// growth compares the largest resident memory of the last soakWarmUp of the soak with
// the level at soakWarmUp, which is the largest of the 5 minutes before. One sample
// alone is no level: a process in Go needs more memory right before its garbage is
// collected. It returns nil if the samples end before.
func growth(samples []memorySample) *float64 {
	if len(samples) == 0 {
		return nil
	}
	const levelOf = 5 * time.Minute
	warm, last := inSeconds(soakWarmUp), samples[len(samples)-1].After
	var level, late mebibytes
	for _, sample := range samples {
		switch {
		case sample.After > warm-inSeconds(levelOf) && sample.After <= warm:
			level = max(level, sample.Footprint.Resident)
		case sample.After > max(warm, last-warm):
			late = max(late, sample.Footprint.Resident)
		}
	}
	if level == 0 || late == 0 {
		return nil
	}
	share := float64(late/level) - 1
	return &share
}
